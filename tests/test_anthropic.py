"""Claude over real sockets: replies, usage, thinking, faults as typed outcomes, keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nemoflows.calls import (
    Answered,
    Attempt,
    Message,
    Outcome,
    Part,
    Request,
    Unanswered,
    Unusable,
    Usage,
    user,
)
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.http import outages, transport
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.loopback import ModelServer
from tests.support import request, run_command

pytestmark = pytest.mark.usefixtures("quick")

T = TypeVar("T")
SPEND_LIMITS = ("429:enforced_spend_limit_reached", "429:contract_spend_limit_reached")


def engine_at(url: str, *, deadline_s: float = 60, key_env: str = "") -> Anthropic:
    base = url.removesuffix("/v1")
    endpoint = Endpoint(dialect="anthropic", base_url=base, key_env=key_env)
    return Anthropic(endpoint, name="claude", deadline_s=deadline_s)


def drive(engine: Anthropic, work: Coroutine[Any, Any, T]) -> T:
    async def whole() -> T:
        try:
            return await work
        finally:
            await engine.aclose()

    return asyncio.run(whole())


def complete(
    server: ModelServer,
    *faults: str,
    deadline_s: float = 60,
    model: str = "claude:tiny",
    **changes: Any,
) -> tuple[Outcome, list[Attempt]]:
    server.faults.extend(faults)
    attempts: list[Attempt] = []
    engine = engine_at(server.url, deadline_s=deadline_s)
    asked = request(model=model, **changes)
    return drive(engine, engine.complete(asked, attempts.append)), attempts


def test_a_reply_is_read_by_block_type_with_usage_in_our_meaning(server: ModelServer) -> None:
    outcome, attempts = complete(server)
    assert isinstance(outcome, Answered)
    assert json.loads(outcome.reply.text) == {"text": "hello"}
    assert outcome.reply.usage == Usage(
        input_tokens=100,
        cache_read_tokens=20,
        cache_write_tokens=10,
        output_tokens=30,
        reasoning_tokens=5,
    )
    assert [attempt.status for attempt in attempts] == ["ok"]


def test_opaque_blocks_come_back_as_they_were(server: ModelServer) -> None:
    outcome, _ = complete(server)
    assert isinstance(outcome, Answered)
    blocks = outcome.reply.blocks
    assert blocks[0]["signature"] == "s1"
    turns = [
        Message(parts=[Part(text="hello")]),
        Message(role="assistant", parts=[], blocks=blocks),
        Message(parts=[Part(text="and then?")]),
    ]
    complete(server, messages=turns)
    assert server.requests[1]["messages"][1]["content"] == blocks


def test_what_is_not_asked_for_is_not_sent(server: ModelServer) -> None:
    complete(server, sampling={"temperature": 0.5})
    assert set(server.requests[0]) == {"model", "messages", "max_tokens"}


def test_what_is_asked_for_is_sent(server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    tool = {"name": "f", "description": "d", "schema": {"type": "object"}}
    complete(server, system="Be brief.", json_schema=schema, tools=[tool])
    [body] = server.requests
    assert body["system"] == "Be brief."
    sent = body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert "minimum" not in sent["schema"]["properties"]["n"]
    assert body["tools"][0]["input_schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("model", "thinking", "sent", "effort"),
    [
        ("claude-haiku-5-5", {"mode": "off"}, {"type": "disabled"}, None),
        ("claude-sonnet-5-5", {"mode": "off"}, {"type": "between_tools"}, None),
        ("claude-opus-5-5", {"mode": "off"}, None, "low"),
        ("claude-opus-5-5", {"mode": "on"}, {"type": "adaptive"}, None),
        (
            "claude-opus-5-5",
            {"mode": "budget", "budget_tokens": 2000},
            {"type": "adaptive"},
            "medium",
        ),
        (
            "claude-haiku-4-5",
            {"mode": "budget", "budget_tokens": 2000},
            {"type": "enabled", "budget_tokens": 2000},
            None,
        ),
        ("some-proxy-model", {"mode": "off"}, {"type": "disabled"}, None),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(
    model: str,
    thinking: dict[str, Any],
    sent: dict[str, Any] | None,
    effort: str | None,
    server: ModelServer,
) -> None:
    complete(server, model=f"claude:{model}", thinking=thinking, max_output_tokens=4096)
    [body] = server.requests
    assert body.get("thinking") == sent
    assert body.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("model", "wish", "noted", "max_tokens"),
    [
        ("claude-haiku-5-5", {"sampling": {"temperature": 0.5}}, "sampling", 1024),
        ("claude-opus-5-5", {"thinking": {"mode": "off"}}, "always thinks", 1024 + 4096),
        (
            "claude-opus-5-5",
            {"thinking": {"mode": "budget", "budget_tokens": 500}},
            "an effort, low, for 500",
            1024 + 500 + 1024,
        ),
        (
            "claude-haiku-4-5",
            {"thinking": {"mode": "budget", "budget_tokens": 500}},
            "1024 tokens, the least",
            1024 + 1024,
        ),
    ],
)
def test_what_cannot_be_carried_out_is_noted_and_thinking_gets_room(
    model: str, wish: dict[str, Any], noted: str, max_tokens: int, server: ModelServer
) -> None:
    outcome, _ = complete(server, model=f"claude:{model}", **wish)
    assert isinstance(outcome, Answered)
    [note] = outcome.reply.notes
    assert noted in note
    assert server.requests[0]["max_tokens"] == max_tokens


def shared(n_characters: int, question: str, **changes: Any) -> Request:
    parts = [Part(kind="passage", id="P1", text="x" * n_characters), Part(text=question)]
    return request(
        model="claude:claude-haiku-5-5", messages=[user(parts)], shared_parts=1, **changes
    )


def test_a_shared_prefix_is_marked_for_the_cache_only_where_the_model_takes_it(
    server: ModelServer,
) -> None:
    engine = engine_at(server.url)
    short, long = shared(300, "a"), shared(9_000, "b")

    async def work() -> None:
        for asked in (short, long, long.model_copy(update={"shared_parts": 0})):
            await engine.complete(asked, lambda _: None)

    drive(engine, work())
    contents = [body["messages"][0]["content"] for body in server.requests]
    assert isinstance(contents[0], str)
    assert isinstance(contents[2], str)
    first, second = contents[1]
    assert first["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in second
    assert f"{first['text']}\n\n{second['text']}" == contents[2]


def test_the_first_call_of_a_shared_prefix_leads(server: ModelServer) -> None:
    server.latency_s = 0.1
    engine = engine_at(server.url)
    asked = [shared(9_000, f"question {n}") for n in range(5)]

    async def work() -> list[Attempt]:
        attempts: list[Attempt] = []
        await asyncio.gather(*(engine.complete(one, attempts.append) for one in asked))
        return attempts

    attempts = sorted(drive(engine, work()), key=lambda attempt: attempt.started_s)
    leader, followers = attempts[0], attempts[1:]
    assert all(leader.ended_s <= follower.started_s for follower in followers)
    assert followers[-1].started_s < followers[0].ended_s, "the others go together"


def test_a_paused_turn_is_gone_on_with_its_blocks_as_they_were(
    server: ModelServer, tmp_path: Path
) -> None:
    server.faults.append("pause_turn")
    endpoint = Endpoint(dialect="anthropic", base_url=server.url.removesuffix("/v1"))
    settings = Settings(run="test", endpoints={"claude": endpoint})
    llm = LLMClient(Engines(settings), Journal(str(tmp_path), run="test"), settings=settings)

    async def work() -> Success[str] | Failure:
        try:
            return await llm.complete(
                CallSpec(request(model="claude:tiny"), lambda reply, _: reply.text)
            )
        finally:
            await llm.aclose()

    done = asyncio.run(work())
    assert isinstance(done, Success)
    assert len(done.calls) == 2
    again = server.requests[1]["messages"]
    assert [turn["role"] for turn in again] == ["user", "assistant"]
    assert again[1]["content"][0]["signature"] == "s1"


def test_a_large_output_is_not_refused_on_this_side(server: ModelServer) -> None:
    outcome, _ = complete(server, max_output_tokens=100_000)
    assert isinstance(outcome, Answered)


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "429:0",
        "500",
        "502",
        "503",
        "529",
        "408",
        "409",
        "reset",
        "cut",
        "text",
        "malformed",
        "empty",
    ],
)
def test_a_passing_fault_is_retried(fault: str, server: ModelServer) -> None:
    outcome, attempts = complete(server, fault)
    assert isinstance(outcome, Answered)
    assert len(attempts) == len(server.requests) == 2
    assert attempts[0].status != "ok"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("500", "down"), ("cut", "down")],
)
def test_a_lasting_fault_ends_after_bounded_attempts(
    fault: str, reason: str, server: ModelServer
) -> None:
    outcome, attempts = complete(server, *[fault] * 10)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == (reason, True)
    assert len(attempts) == transport.MAX_ATTEMPTS


@pytest.mark.parametrize(
    "fault",
    [
        "400",
        "401",
        "402",
        "403",
        "404",
        "413",
        "422",
        "shape",
        "429:enforced_spend_limit_reached",
        "429:contract_spend_limit_reached",
    ],
)
def test_a_final_refusal_is_not_retried(fault: str, server: ModelServer) -> None:
    outcome, attempts = complete(server, *[fault] * 3)
    assert isinstance(outcome, Unanswered)
    assert not outcome.transient
    assert len(attempts) == 1


@pytest.mark.parametrize("fault", ["429:999", "503:999", "529:999", "408:999"])
def test_a_very_long_retry_after_is_left_to_the_next_attempt(
    fault: str, server: ModelServer
) -> None:
    outcome, attempts = complete(server, fault)
    assert isinstance(outcome, Unanswered)
    assert outcome.transient
    assert len(attempts) == 1


def test_a_hanging_server_meets_the_deadline(server: ModelServer) -> None:
    outcome, attempts = complete(server, "hang:2", deadline_s=0.3)
    assert isinstance(outcome, Unanswered)
    assert outcome.reason == "deadline"
    assert [attempt.status for attempt in attempts] == ["cancelled"]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("refusal", "refused"),
        ("max_tokens", "truncated"),
        ("model_context_window_exceeded", "context"),
    ],
)
def test_an_unusable_end_is_typed_and_keeps_its_usage(
    stop: str, reason: str, server: ModelServer
) -> None:
    outcome, _ = complete(server, stop)
    assert isinstance(outcome, Unusable)
    assert outcome.reason == reason
    assert outcome.reply.usage is not None
    assert outcome.reply.usage.output_tokens == 30


def test_an_unknown_end_is_an_answer(server: ModelServer) -> None:
    outcome, _ = complete(server, "something_new")
    assert isinstance(outcome, Answered)


def test_preflight_knows_the_models(server: ModelServer) -> None:
    engine = engine_at(server.url)
    drive(engine, engine.preflight(ModelRef.model_validate("claude:tiny")))
    with pytest.raises(BadModel, match="does not serve 'huge'"):
        drive(engine, engine.preflight(ModelRef.model_validate("claude:huge")))
    assert not server.requests


def test_preflight_of_a_dead_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_CONTACT_S", 0.05)
    dead = engine_at("http://127.0.0.1:9/v1")
    with pytest.raises(EndpointDown, match="did not answer"):
        drive(dead, dead.preflight(ModelRef.model_validate("claude:tiny")))


def test_a_missing_key_is_an_error_before_any_call(server: ModelServer) -> None:
    engine = engine_at(server.url, key_env="NO_SUCH_KEY")
    with pytest.raises(BadModel, match="NO_SUCH_KEY"):
        drive(engine, engine.complete(request(model="claude:tiny"), lambda _: None))
    assert not server.requests


def test_64_calls_at_once_are_all_answered(server: ModelServer) -> None:
    engine = engine_at(server.url)

    async def many() -> list[Outcome]:
        asked = [request(str(n), model="claude:tiny") for n in range(64)]
        return await asyncio.gather(*(engine.complete(one, lambda _: None) for one in asked))

    assert all(isinstance(outcome, Answered) for outcome in drive(engine, many()))


def test_a_question_with_claude_as_the_frontier(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-claude")
    with ModelServer(models=("claude-haiku-5-5",)) as claude, ModelServer() as near:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.url.removesuffix("/v1"))
        named = {"efficient": "near:tiny", "frontier": "anthropic:claude-haiku-5-5"}
        done = run_command(
            "pyflyte", "run", "workflows/rag.py", "answer_question",
            "--question", "How long is the Elbe?", "--corpus", corpus,
            "--policy", json.dumps(named),
            env={"NEMOFLOWS_ENDPOINTS": near.endpoints("near")},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert "It is so. [1][2]" in done.stdout
        assert set(claude.purposes()) == {"plan", "synthesise"}
        assert {"extract", "summarise"} <= set(near.purposes())
        assert set(claude.authorizations) == {"Bearer canary-claude"}
        assert not any("canary" in sent for sent in near.authorizations)
        assert "canary" not in done.stdout
        assert "of unknown price" in done.stdout
