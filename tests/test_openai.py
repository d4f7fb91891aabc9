"""The OpenAI dialect over real sockets: replies, usage, faults as typed outcomes, keys."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Unanswered, Unusable, Usage
from nemoflows.engines.http import outages, transport
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.models import Endpoint
from nemoflows.types import ModelRef
from tests.loopback import ModelServer
from tests.support import request

pytestmark = pytest.mark.usefixtures("quick")

T = TypeVar("T")
MODEL = ModelRef.model_validate("local:tiny")


def engine_at(url: str, *, deadline_s: float = 60, key_env: str = "") -> OpenAI:
    endpoint = Endpoint(dialect="openai", base_url=url, key_env=key_env)
    return OpenAI(endpoint, name="local", deadline_s=deadline_s)


def drive(engine: OpenAI, work: Coroutine[Any, Any, T]) -> T:
    async def whole() -> T:
        try:
            return await work
        finally:
            await engine.aclose()

    return asyncio.run(whole())


def complete(
    server: ModelServer, *faults: str, deadline_s: float = 60, **changes: Any
) -> tuple[Outcome, list[Attempt]]:
    server.faults.extend(faults)
    attempts: list[Attempt] = []
    engine = engine_at(server.url, deadline_s=deadline_s)
    asked = request(model="local:tiny", **changes)
    return drive(engine, engine.complete(asked, attempts.append)), attempts


def test_a_reply_comes_with_usage_in_our_meaning(server: ModelServer) -> None:
    outcome, attempts = complete(server)
    assert isinstance(outcome, Answered)
    assert outcome.reply.usage == Usage(
        input_tokens=100, cache_read_tokens=20, output_tokens=30, reasoning_tokens=5
    )
    assert (outcome.reply.model, outcome.reply.fingerprint) == ("tiny", "fp1")
    assert [attempt.status for attempt in attempts] == ["ok"]


def test_what_is_not_asked_for_is_not_sent(server: ModelServer) -> None:
    complete(server)
    assert set(server.requests[0]) == {"model", "messages", "max_completion_tokens"}


def test_what_is_asked_for_is_sent(server: ModelServer) -> None:
    complete(
        server,
        system="Be brief.",
        json_schema={"type": "object"},
        sampling={"temperature": 0.0, "seed": 7},
        tools=[{"name": "f", "description": "d", "schema": {"type": "object"}}],
    )
    [body] = server.requests
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["temperature"], body["seed"]) == (0.0, 7)
    assert body["tools"][0]["function"]["name"] == "f"


@pytest.mark.parametrize(
    "fault",
    ["429", "429:1", "500", "503", "529", "408", "reset", "cut", "text", "malformed"],
)
def test_a_passing_fault_is_retried(fault: str, server: ModelServer) -> None:
    outcome, attempts = complete(server, fault)
    assert isinstance(outcome, Answered)
    assert len(attempts) == 2
    assert attempts[0].status != "ok"
    assert attempts[1].status == "ok"


def test_a_lasting_fault_ends_after_bounded_attempts(server: ModelServer) -> None:
    outcome, attempts = complete(server, *["malformed"] * 10)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("down", True)
    assert len(attempts) == len(server.requests) == transport.MAX_ATTEMPTS


@pytest.mark.parametrize(
    "fault", ["400", "401", "403", "404", "413", "shape", "429:insufficient_quota"]
)
def test_a_final_refusal_is_not_retried(fault: str, server: ModelServer) -> None:
    outcome, attempts = complete(server, *[fault] * 3)
    assert isinstance(outcome, Unanswered)
    assert not outcome.transient
    assert len(attempts) == 1


def test_a_very_long_retry_after_is_left_to_the_next_attempt(server: ModelServer) -> None:
    outcome, attempts = complete(server, "429:999")
    assert isinstance(outcome, Unanswered)
    assert len(attempts) == 1


def test_a_hanging_server_meets_the_deadline(server: ModelServer) -> None:
    outcome, attempts = complete(server, "hang:2", deadline_s=0.3)
    assert isinstance(outcome, Unanswered)
    assert outcome.reason == "deadline"
    assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_a_cut_off_reply_is_truncated_and_kept(server: ModelServer) -> None:
    outcome, _ = complete(server, "length")
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "truncated"
    assert outcome.reply.usage is not None
    assert outcome.reply.usage.output_tokens == 30


def test_a_filtered_reply_is_a_refusal(server: ModelServer) -> None:
    outcome, _ = complete(server, "content_filter")
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "refused"


PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": PARTS}, "ab", ""),
        ({"content": PARTS[0]}, "a", ""),
        ({"content": [], "reasoning": "why"}, "", "why"),
        ({"content": None}, "", ""),
        ({"content": "x", "reasoning": {"text": "why"}}, "x", "why"),
        ({"content": "x", "reasoning": {"effort": "low"}, "reasoning_content": "w"}, "x", "w"),
        ({"content": "x", "reasoning_content": [{"type": "text", "text": "why"}]}, "x", "why"),
        ({"content": "x", "reasoning": 7}, "x", ""),
    ],
)
def test_a_reply_of_another_shape_is_read_and_paid_once(
    message: dict[str, Any], text: str, reasoning: str, server: ModelServer
) -> None:
    server.extra_message = message
    outcome, attempts = complete(server)
    assert isinstance(outcome, Answered)
    assert (outcome.reply.text, outcome.reply.reasoning) == (text, reasoning)
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("arguments", "read"), [('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a": 1}'), (None, "{}")]
)
def test_a_tool_calls_arguments_are_json_however_they_came(
    arguments: object, read: str, server: ModelServer
) -> None:
    function = {"name": "f", "arguments": arguments}
    server.extra_message = {"tool_calls": [{"id": "1", "type": "function", "function": function}]}
    outcome, attempts = complete(server)
    assert isinstance(outcome, Answered)
    assert [call.arguments for call in outcome.reply.tool_calls] == [read]
    assert len(attempts) == 1


def test_preflight_knows_the_models(server: ModelServer) -> None:
    engine = engine_at(server.url)
    drive(engine, engine.preflight(MODEL))
    with pytest.raises(BadModel, match=r"does not serve 'huge'; it has tiny"):
        drive(engine, engine.preflight(ModelRef.model_validate("local:huge")))
    assert not server.requests


def test_preflight_of_a_dead_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_CONTACT_S", 0.05)
    engine = engine_at("http://127.0.0.1:9/v1")
    with pytest.raises(EndpointDown, match="did not answer"):
        drive(engine, engine.preflight(MODEL))


def test_a_missing_key_is_an_error_before_any_call(server: ModelServer) -> None:
    engine = engine_at(server.url, key_env="NO_SUCH_KEY")
    with pytest.raises(BadModel, match="NO_SUCH_KEY"):
        drive(engine, engine.complete(request(model="local:tiny"), lambda _: None))
    assert not server.requests


def test_a_key_goes_to_its_own_address_only(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "key-a")
    monkeypatch.setenv("OPENAI_API_KEY", "key-openai")
    with ModelServer() as other:
        keyed = engine_at(server.url, key_env="KEY_A")
        drive(keyed, keyed.complete(request(model="local:tiny"), lambda _: None))
        plain = engine_at(other.url)
        drive(plain, plain.complete(request(model="local:tiny"), lambda _: None))
        assert server.authorizations == ["Bearer key-a"]
        assert "key" not in other.authorizations[0]


def test_64_calls_at_once_are_all_answered(server: ModelServer) -> None:
    engine = engine_at(server.url)

    async def many() -> list[Outcome]:
        asked = [request(str(n), model="local:tiny") for n in range(64)]
        return await asyncio.gather(*(engine.complete(one, lambda _: None) for one in asked))

    outcomes = drive(engine, many())
    assert all(isinstance(outcome, Answered) for outcome in outcomes)


def test_the_dialect_refuses_what_it_has_not() -> None:
    engine = engine_at("http://127.0.0.1:9/v1")
    with pytest.raises(BadModel, match="cannot embed"):
        drive(engine, engine.embed(MODEL, ["x"], query=False))
