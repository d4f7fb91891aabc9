"""The fake engine: rules in order, faults, scripts from files."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered, Outcome, Unanswered, Unusable
from nemoflows.engines.fake import FakeEngine, Rule, request_text
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadModel
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.support import request


def complete(engine: FakeEngine, text: str = "hello", **changes: Any) -> Outcome:
    return asyncio.run(engine.complete(request(text, **changes), lambda _: None))


def test_the_first_rule_that_matches_answers() -> None:
    engine = FakeEngine(
        [Rule(purpose="plan", reply="p"), Rule(contains="two", reply="2"), Rule(reply="any")]
    )
    replies = [complete(engine), complete(engine, "one two"), complete(engine, purpose="plan")]
    assert [reply.reply.text for reply in replies if isinstance(reply, Answered)] == [
        "any",
        "2",
        "p",
    ]


def test_a_used_up_rule_lets_the_next_answer() -> None:
    engine = FakeEngine([Rule(reply="a", times=2), Rule(reply="b")])
    replies = [complete(engine) for _ in range(3)]
    assert [r.reply.text for r in replies if isinstance(r, Answered)] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("refused", Unusable, "refused"),
        ("truncated", Unusable, "truncated"),
        ("rate_limited", Unanswered, "rate_limited"),
        ("down", Unanswered, "down"),
        ("rejected", Unanswered, "rejected"),
    ],
)
def test_a_fault_is_its_outcome(fault: str, kind: type, reason: str) -> None:
    outcome = complete(FakeEngine([Rule.model_validate({"fault": fault})]))
    assert isinstance(outcome, kind)
    assert getattr(outcome, "reason", "") == reason


def test_a_request_without_a_rule_names_itself() -> None:
    with pytest.raises(BadModel, match="'summarise' that begins 'hello'"):
        complete(FakeEngine([Rule(purpose="plan", reply="x")]))


def test_a_script_is_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"reply": "from the file"}]))
    model = ModelRef.model_validate(f"fake:{path}")
    engine = Engines(Settings()).of(model)
    outcome = asyncio.run(engine.complete(request(model=str(model)), lambda _: None))
    assert isinstance(outcome, Answered)
    assert outcome.reply.text == "from the file"


@pytest.mark.parametrize("content", [None, "{", '[{"reply": 1, "nonsense": 2}]'])
def test_a_bad_script_is_a_clear_error(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadModel, match="does not name a script"):
        asyncio.run(FakeEngine().preflight(ModelRef.model_validate(f"fake:{path}")))


def test_what_a_rule_matches_is_all_that_a_model_reads() -> None:
    assert request_text(request("hello", system="Be brief.")) == "Be brief.\n\nhello"


def test_a_hanging_rule_can_be_cancelled() -> None:
    async def hang() -> None:
        async with asyncio.timeout(0.05):
            await FakeEngine([Rule(fault="hang")]).complete(request(), lambda _: None)

    with pytest.raises(TimeoutError):
        asyncio.run(hang())
