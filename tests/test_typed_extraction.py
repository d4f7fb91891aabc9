"""Records of a user's own, read out of passages, with their spans."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.schemas import bounded
from nemoflows.typed.extract import ExtractStep
from nemoflows.typed.types import Extraction
from nemoflows.types import Passage, Policy
from tests.typed import POLICY, Run, says


class City(BaseModel):
    name: str
    people: int | None = None


SHAPE = bounded(City, output_tokens=512)
PASSAGES = [
    Passage(id=f"p{n}", document="d", start=0, end=40, text=f"City{n} has {n}00 inhabitants.")
    for n in range(2)
]


def city(name: str, quote: str) -> str:
    absent = {"quote": "", "value": 0}
    return json.dumps({"record": {"name": {"quote": quote, "value": name}, "people": absent}})


def test_extraction_cascades_with_its_spans(tmp_path: Path) -> None:
    near = FakeEngine([Rule(contains="City1", reply="no"), Rule(reply=city("City0", "City0"))])
    run = Run(tmp_path, near, says(city("City1", "City1")))
    for_all = ExtractStep("cities", SHAPE)
    first, second = run.cascade(for_all, PASSAGES)
    assert (first.value, first.tier) == (City(name="City0"), "efficient")
    assert (second.value, second.tier, second.passage) == (City(name="City1"), "frontier", "p1")
    assert second.spans[0].quote == "City1"
    assert {asked.purpose for asked in near.asked} == {"cities"}


def test_extraction_goes_to_the_frontier_where_its_route_says_so(tmp_path: Path) -> None:
    policy = Policy.model_validate({**dict(POLICY), "routes": {"cities": "frontier"}})
    run = Run(tmp_path, FakeEngine([]), says(city("City0", "City0")), policy)
    [found] = run.cascade(ExtractStep("cities", SHAPE), PASSAGES[:1])
    assert isinstance(found, Extraction)
    assert (found.value, found.document) == (City(name="City0"), "d")


def test_the_users_check_of_an_extraction_comes_first(tmp_path: Path) -> None:
    run = Run(tmp_path, says(city("City0", "City0")))
    step = ExtractStep("cities", SHAPE, lambda city, _: "" if city.people else "no people")
    [found] = run.first(step, PASSAGES[:1])
    assert found.low_confidence == "no people"
