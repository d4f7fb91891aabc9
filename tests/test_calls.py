"""Requests and their keys."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nemoflows.calls import (
    KEY_VERSION,
    Message,
    Part,
    Reply,
    Request,
    Sampling,
    Thinking,
    Usage,
    user,
    wire,
)
from tests.support import request

GOLDEN = {
    1: {
        "plain": "d2e33635b76a8e2a0c0a93ea0da1273678ca529572394811e5f139a044ec3a4a",
        "tools": "b9dde5bd21a6e7a43c49eaa8b430cad89f3adeac29e464db0834b7c0bd1386f4",
        "full": "c1f378db8a2b6ff93cf4fb6eea3466380e1eb158ae2f038b4fdb10e8936cf461",
    }
}
"""Keys by version: they never change within one, or every recorded call would be paid again."""


def golden() -> dict[str, str]:
    full = request(
        "héllo 🜁",
        model="openai:gpt@r1+lora#fp8",
        system="Be brief.",
        json_schema={"type": "object", "properties": {"b": {}, "a": {}}},
        max_output_tokens=77,
        sampling=Sampling(temperature=0.5, seed=3),
        thinking=Thinking(mode="budget", budget_tokens=20),
        sample=2,
        salt="again",
    )
    tool = {"name": "f", "description": "d", "schema": {"type": "object"}}
    return {
        "plain": request(model="scripted:x").key(),
        "tools": request(model="openai:gpt", tools=[tool], tool_choice="auto").key(),
        "full": full.key(model_fingerprint="weights", wire_version="x-1"),
    }


def test_keys_are_golden() -> None:
    assert golden() == GOLDEN[KEY_VERSION], (
        "Keys moved. If that is meant, raise KEY_VERSION and add the new keys; never edit old ones."
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": "fake:y"},
        {"messages": [user([Part(text="other")])]},
        {"messages": [user([Part(text="hello", kind="passage")])]},
        {"messages": [user([Part(text="hello", id="P1")])]},
        {"messages": [Message(role="assistant", parts=[Part(text="hello")])]},
        {"system": "s"},
        {"json_schema": {}},
        {"max_output_tokens": 5},
        {"sampling": {"temperature": 0.0}},
        {"thinking": {"mode": "on"}},
        {"sample": 1},
        {"salt": "s"},
        {"tools": [{"name": "f", "description": "", "schema": {}}]},
        {"tool_choice": "auto"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_answer_is_in_the_key(change: dict[str, Any]) -> None:
    assert request(**change).key() != request().key()


def test_purpose_and_relevance_are_not_in_the_key() -> None:
    scored = user([Part(text="hello", score=3.5)])
    assert request(purpose="plan", messages=[scored]).key() == request().key()


def test_a_changed_copy_has_a_key_of_its_own() -> None:
    first = request()
    before = first.key()
    again = wire.ask_again(first, reply_text="{", error="not JSON")
    assert again.key() != before == first.key()


def test_a_schemas_order_decides_what_is_written_first() -> None:
    one = request(json_schema={"properties": {"reasoning": {}, "answer": {}}})
    two = request(json_schema={"properties": {"answer": {}, "reasoning": {}}})
    assert one.key() != two.key()
    assert '"reasoning":{},"answer":{}' in one.model_dump_json()


def test_lone_surrogates_are_replaced_where_they_enter() -> None:
    asked = request("a\ud800b", system="\udc00")
    assert asked.messages[0].parts[0].text == "a\ufffdb"
    assert len(asked.key()) == 64
    assert Reply(text="\ud83d").text == "\ufffd"
    assert Reply(text="\ud83d\ude00").text == "😀"


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        request().cache_salt = "x"


def test_a_request_round_trips_through_json() -> None:
    first = request(tools=[{"name": "f", "description": "d", "schema": {"type": "object"}}])
    copy = Request.model_validate_json(first.model_dump_json(by_alias=True))
    assert copy.key() == first.key()


def test_usages_add_up() -> None:
    total = Usage(input_tokens=1, reasoning_tokens=2) + Usage(input_tokens=3, output_tokens=4)
    assert total == Usage(input_tokens=4, output_tokens=4, reasoning_tokens=2)
