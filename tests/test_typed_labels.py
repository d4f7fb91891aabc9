"""Labels of a user's own: an Enum or a Literal, and how sure the samples are."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from nemoflows.calls import Request, Sampling
from nemoflows.engines.fake import FakeEngine, request_text
from nemoflows.errors import BadInput
from nemoflows.typed.classify import TEMPERATURE, ClassifyStep
from nemoflows.typed.template import Template
from nemoflows.types import Policy
from tests.typed import POLICY, Run, says


class Intent(enum.Enum):
    WEATHER = "weather"
    MUSIC = "play music"


EXAMPLES = {"weather": ["will it rain"], "play music": ["put on a song by Miles Davis"]}
WORDS = Literal["weather", "play music"]


def label(name: str) -> str:
    return json.dumps({"label": name})


def classifying(kind: Any = Intent, **more: Any) -> ClassifyStep:
    return ClassifyStep("intents", Template(more.pop("prompt", "")), kind, **more)


@pytest.mark.parametrize(("kind", "value"), [(Intent, Intent.MUSIC), (WORDS, "play music")])
def test_labels_of_an_enum_or_a_literal_are_returned(
    tmp_path: Path, kind: Any, value: object
) -> None:
    run = Run(tmp_path, says(label("play music")))
    [result] = run.first(classifying(kind), ["some jazz, please"])
    assert result.value == value
    assert result.confidence == 1.0
    assert len(result.calls) == 3
    schema = run.near.asked[0].json_schema
    assert schema is not None
    assert schema["properties"]["label"]["enum"] == ["weather", "play music"]


def test_labels_are_folded_and_others_asked_again(tmp_path: Path) -> None:
    run = Run(tmp_path, says(label(" Play MUSIC "), label("jazz"), label("weather")))
    first, second = run.first(classifying(samples=1), ["a", "b"])
    assert (first.value, len(first.calls)) == (Intent.MUSIC, 1)
    assert (second.value, len(second.calls)) == (Intent.WEATHER, 2)
    assert "'jazz' is not one of the labels: weather, play music" in request_text(
        run.near.asked[-1]
    )


def by_sample(labels: Sequence[str]) -> FakeEngine:
    """Return an engine whose samples of a row are these labels, one after the other."""
    samples: list[int] = []

    def answer(request: Request) -> str:
        samples.extend([request.sample] if request.sample not in samples else [])
        return label(labels[samples.index(request.sample)])

    return FakeEngine(answer=answer)


def test_confidence_is_the_agreement_of_samples(tmp_path: Path) -> None:
    run = Run(tmp_path, by_sample(["weather", "play music", "play music"]))
    [result] = run.first(classifying(), ["a"])
    assert result.value == Intent.MUSIC
    assert result.confidence == pytest.approx(2 / 3)
    assert result.low_confidence == ""
    temperatures = [asked.sampling.temperature for asked in run.near.asked if asked.sampling]
    assert temperatures == [0.0, TEMPERATURE, TEMPERATURE], "the first is the model's best"
    assert len({asked.sample for asked in run.near.asked}) == 3


def test_a_sample_that_cannot_be_used_agrees_with_none(tmp_path: Path) -> None:
    run = Run(tmp_path, by_sample(["weather", "nothing", "weather"]))
    [result] = run.first(classifying(threshold=0.7), ["a"])
    assert result.value == Intent.WEATHER
    assert result.confidence == pytest.approx(2 / 3)
    assert "confidence 0.67, 0.7 wanted" in result.low_confidence
    [none] = Run(tmp_path / "2", says(label("nothing"))).first(classifying(), ["a"])
    assert none.value is None
    assert none.problem.startswith("invalid: 'nothing' is not one of the labels")


def test_another_draw_of_a_sample_is_never_another_sample(tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"max_resamples": 2})
    run = Run(tmp_path, says(label("nothing")), policy=policy)
    [result] = run.first(classifying(), ["a"])
    assert len(set(result.calls)) == 3 * 3 * 2, "three samples, three draws, each asked twice"


def test_low_confidence_goes_on_by_the_steps_threshold_or_the_routes(tmp_path: Path) -> None:
    labels = ["weather", "play music", "play music"]
    far = says(label("weather"))
    strict = classifying(threshold=0.9)
    [result] = Run(tmp_path / "1", by_sample(labels), far).cascade(strict, ["a"])
    assert (result.value, result.tier, len(result.calls)) == (Intent.WEATHER, "frontier", 6)
    routed = Policy.model_validate({**dict(POLICY), "routes": {"intents": {"threshold": 0.5}}})
    run = Run(tmp_path / "2", by_sample(labels), policy=routed)
    [result] = run.cascade(strict, ["a"])
    assert (result.value, result.tier) == (Intent.MUSIC, "efficient")


def test_one_sample_measures_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, says(label("weather")))
    [result] = run.cascade(classifying(samples=1), ["a"])
    assert result.confidence is None
    assert not result.failed
    assert run.near.asked[0].sampling == Sampling(temperature=0.0)


def test_examples_are_shown_as_data_that_rows_share(tmp_path: Path) -> None:
    run = Run(tmp_path, says(label("weather")))
    run.first(classifying(examples=EXAMPLES, samples=1), ["a", "b"])
    for asked in run.near.asked:
        shown = asked.messages[0].parts[: asked.shared_parts]
        assert [(part.kind, part.text) for part in shown] == [
            ("field", "will it rain"),
            ("field", "put on a song by Miles Davis"),
        ]
        assert "label: play music" in request_text(asked)


def test_without_a_model_the_nearest_label_is_taken(tmp_path: Path) -> None:
    run = Run(tmp_path, says(label("weather")), policy=Policy())
    rows = ["please put on Kind of Blue by Miles Davis", "does it rain in Ulm", "xyzzy"]
    music, weather, none = run.first(classifying(examples=EXAMPLES), rows)
    assert (music.value, weather.value) == (Intent.MUSIC, Intent.WEATHER)
    assert (music.tier, music.calls) == ("builtin", [])
    assert music.confidence is not None
    assert music.confidence > 0.6
    assert none.failed, "nothing tells the labels apart"
    assert run.near.asked == []


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Literal["one"], {}),
        (str, {}),
        (str | None, {}),
        (Intent, {"examples": {"cooking": ["a"]}}),
        (Intent, {"samples": 0}),
        (Intent, {"threshold": 1.5}),
    ],
)
def test_labels_that_cannot_be_used_are_refused(kind: Any, more: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="at least two"):
        classifying(kind, **more)
