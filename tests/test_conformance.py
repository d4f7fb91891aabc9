"""One suite for every engine: what the client relies on, whoever answers.

The paid remote engines are the real SDKs, against the tests' own server and against vLLM's.
What vLLM's random weights answer is nonsense; its shape, its end and its count are not.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import numpy as np
import pytest

from nemoflows.calls import (
    Answered,
    Attempt,
    Message,
    Outcome,
    Part,
    Reply,
    Unanswered,
    Unusable,
    user,
    values,
)
from nemoflows.engines.base import Engine
from nemoflows.engines.fake import Rule
from nemoflows.engines.http import transport
from nemoflows.errors import BadModel
from nemoflows.rag import prompts
from nemoflows.types import ModelRef
from tests.engines import CONTEXT_TOKENS, GREEDY, chosen
from tests.subjects import LOOPBACK, Subject
from tests.support import request as make_request

STATUS = re.compile(r"ok|cancelled|[A-Za-z]+( \d{3})?")
QUESTION = "How long is the Elbe?"
TEXT = "The Elbe rises in Bohemia. It is 1,094 kilometres long."


def test_free_text_is_answered(subject: Subject) -> None:
    reply = subject.answer(subject.ask(TEXT))
    assert reply.text or subject.is_random
    assert (reply.stop, reply.tool_calls) == ("end", [])


def test_a_system_prompt_is_taken_and_read(subject: Subject) -> None:
    asked = subject.ask(TEXT, system="Be brief as a bird.")
    plain, told = subject.answer(subject.ask(TEXT)).usage, subject.answer(asked).usage
    if subject.name in LOOPBACK:
        assert "Be brief as a bird." in json.dumps(subject.server.requests)
    elif subject.is_random:
        assert plain is not None
        assert told is not None
        assert told.input_tokens > plain.input_tokens + 5


def test_a_reply_that_is_cut_off_is_typed_and_kept(subject: Subject) -> None:
    asked = subject.structured() if subject.is_random else subject.ask(TEXT)
    outcome, _ = subject.complete(subject.fail(asked, "truncated"))
    assert isinstance(outcome, Unusable)
    assert (outcome.reason, outcome.reply.stop) == ("truncated", "length")
    assert outcome.detail
    if subject.is_random:
        assert outcome.reply.usage is not None
        assert outcome.reply.usage.output_tokens == 2


def test_a_refusal_is_typed_and_keeps_its_usage(subject: Subject) -> None:
    asked = subject.fail(make_request(model=str(subject.model)), "refused")
    outcome, attempts = subject.complete(asked)
    assert isinstance(outcome, Unusable)
    assert (outcome.reason, outcome.reply.stop) == ("refused", "refusal")
    assert outcome.reply.usage is not None
    assert outcome.reply.usage.output_tokens > 0
    assert len(attempts) == 1, "a refusal is paid for and not asked again"


def test_a_cancelled_call_leaves_the_engine_usable(subject: Subject) -> None:
    subject.server.faults.append("hang:0.3")
    subject.rules.extend([Rule(fault="hang", times=1), Rule(reply="{}")])
    attempts: list[Attempt] = []

    async def work(engine: Engine) -> Outcome:
        task = asyncio.ensure_future(engine.complete(subject.ask_long(), attempts.append))
        while subject.name != "builtin" and not subject.n_in_flight():
            await asyncio.sleep(0.005)  # on threads and processes that no event tells of
            if subject.name == "fake":
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while subject.is_random and subject.n_in_flight():  # noqa: ASYNC110  (the same)
            await asyncio.sleep(0.005)
        return await engine.complete(subject.ask(TEXT), lambda _: None)

    outcome = subject.drive(work)
    assert isinstance(outcome, Answered)
    if subject.is_remote or subject.is_random:
        assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_64_calls_at_once_get_each_its_own_answer(subject: Subject) -> None:
    attempts: list[list[Attempt]] = [[] for _ in range(64)]
    questions = [f"How deep is the lake number {n}?" for n in range(64)]

    async def work(engine: Engine) -> list[Outcome]:
        asked = [subject.structured(n) for n in range(64)]
        if subject.name == "builtin":
            asked = [prompts.plan(question, n=2) for question in questions]
        calls = zip(asked, attempts, strict=True)
        return await asyncio.gather(*(engine.complete(one, to.append) for one, to in calls))

    outcomes = subject.drive(work)
    if subject.name == "builtin":
        read = [prompts.read_plan(o.reply, n=2) for o in outcomes if isinstance(o, Answered)]
        assert read == [[question] for question in questions]
    else:
        assert [chosen(outcome) for outcome in outcomes] == list(range(64))
    assert {len(one) for one in attempts} == {0 if subject.name == "builtin" else 1}


def test_usage_has_one_meaning(subject: Subject) -> None:
    usage = subject.answer(subject.ask(TEXT)).usage
    if subject.name == "builtin":
        assert usage is None, "the free tier counts nothing"
        return
    assert usage is not None
    assert all(count >= 0 for count in usage.model_dump().values())
    assert usage.input_tokens > 0
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
    assert usage + usage == usage.model_copy(
        update={name: 2 * count for name, count in usage.model_dump().items()}
    )


def test_a_paid_engine_reports_its_attempts_and_a_free_one_none(subject: Subject) -> None:
    if subject.name in LOOPBACK:
        subject.server.faults.extend(["500", "reset"])
    _, attempts = subject.complete(subject.ask(TEXT))
    expected = {"builtin": 0, "openai": 3, "anthropic": 3}.get(subject.name, 1)
    assert [attempt.number for attempt in attempts] == list(range(1, expected + 1))
    assert subject.make().paid == bool(attempts)
    for attempt in attempts:
        assert attempt.started_s <= attempt.ended_s
        assert STATUS.fullmatch(attempt.status)


def test_a_reply_survives_json_whole_opaque_blocks_included(subject: Subject) -> None:
    reply = subject.answer(subject.ask(TEXT))
    again = Reply.model_validate_json(reply.model_dump_json())
    assert again == reply
    assert json.dumps(again.blocks) == json.dumps(reply.blocks)
    assert bool(reply.blocks) == (subject.name == "anthropic")


def test_thinking_blocks_are_sent_back_as_they_came(subject: Subject) -> None:
    if subject.dialect != "anthropic":
        pytest.skip("the dialect has no opaque blocks")
    budget = {"mode": "budget", "budget_tokens": 1024}
    first = subject.structured(7, thinking=budget)
    reply = subject.answer(first)
    kinds = [block["type"] for block in reply.blocks]
    assert kinds == ["thinking", "text"]
    turn = Message(role="assistant", parts=[Part(text=reply.text)], blocks=reply.blocks)
    turns = [*first.messages, turn, user([Part(text="And now?")])]
    outcome, _ = subject.complete(first.model_copy(update={"messages": turns}))
    assert chosen(outcome) == 7
    if subject.name == "anthropic":
        assert subject.server.requests[-1]["messages"][1]["content"] == reply.blocks


def test_a_reply_can_be_followed_by_another_turn(subject: Subject) -> None:
    subject.server.replies["chat"] = "fine"
    first = subject.structured() if subject.is_random else subject.ask(TEXT)
    reply = subject.answer(first)
    turn = Message(role="assistant", parts=[Part(text=reply.text)], blocks=reply.blocks)
    turns = [*first.messages, turn, user([Part(text="The Danube is a river. And then?")])]
    assert subject.answer(first.model_copy(update={"messages": turns})).text


def test_fingerprint_and_wire_version_are_the_same_in_every_engine(subject: Subject) -> None:
    one, two = subject.make(), subject.make()
    assert one.model_fingerprint(subject.model) == two.model_fingerprint(subject.model)
    if subject.in_process is None:  # local weights are known by what they are
        assert one.model_fingerprint(subject.model).startswith(str(subject.model))
    assert one.wire_version == two.wire_version
    family = "openai" if subject.name == "vllm-openai" else subject.dialect
    assert re.fullmatch(rf"{family}-\d+", one.wire_version)


def test_the_same_request_has_one_key_and_another_model_another(subject: Subject) -> None:
    def key(question: str, model: ModelRef) -> str:
        engine = subject.make()
        asked = prompts.plan(question, n=3)
        return engine.key(asked.model_copy(update={"model": model}))

    other = subject.model.model_copy(update={"name": "other"})
    assert key(QUESTION, subject.model) == key(QUESTION, subject.model)
    assert key(QUESTION, subject.model) != key(QUESTION, other)
    assert key(QUESTION, subject.model) != key(f"{QUESTION} ", subject.model)


def test_preflight_asks_nothing_that_costs(subject: Subject) -> None:
    subject.drive(lambda engine: engine.preflight(subject.model))
    assert subject.server.requests == []
    assert not subject.is_random or subject.n_in_flight() == 0


def test_closing_twice_is_harmless(subject: Subject) -> None:
    if subject.in_process is not None:
        pytest.skip("the session's one engine is closed at its end; another is in test_vllm_deaths")

    async def work(engine: Engine) -> Outcome:
        outcome = await engine.complete(subject.ask(TEXT), lambda _: None)
        await engine.aclose()
        await engine.aclose()
        return outcome

    assert isinstance(subject.drive(work), Answered)


def test_vectors_come_or_are_refused_by_name(subject: Subject) -> None:
    try:
        found = subject.drive(lambda engine: engine.embed(subject.model, ["a", "b"], query=False))
    except BadModel as error:
        assert str(subject.model) in error.message  # noqa: PT017  (either end is the claim)
    else:
        assert np.allclose(np.linalg.norm(found, axis=1), [1, 1])


def test_a_reply_fits_the_schema_that_was_asked_for(subject: Subject) -> None:
    if subject.name == "builtin":
        pytest.skip("writes what the library's own prompts ask for, and no other schema")
    for n in (1, 17, 1_000_003):
        outcome, _ = subject.complete(subject.structured(n))
        assert chosen(outcome) == n


def test_a_prompt_that_is_too_long_is_typed_with_its_numbers(subject: Subject) -> None:
    if not (subject.is_remote or subject.is_random):
        pytest.skip("has no context that could be too small")
    if subject.name in LOOPBACK:
        subject.server.faults.append("too_long:210000")
    outcome, attempts = subject.complete(
        subject.structured().model_copy(update={"messages": [user([Part(text="word " * 9000)])]})
    )
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("too_long", False)
    assert ("210000" if subject.name in LOOPBACK else str(CONTEXT_TOKENS)) in outcome.detail
    assert "word" not in outcome.detail
    assert len(attempts) == 1


def test_a_deadline_is_typed_and_leaves_nothing_behind(subject: Subject) -> None:
    if not (subject.is_remote or subject.is_random):
        pytest.skip("answers at once, so that it needs no deadline")
    subject.server.faults.append("hang:0.6")
    outcome, attempts = subject.complete(subject.ask_long(), deadline_s=0.2)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("deadline", True)
    assert "0.2 s" in outcome.detail
    assert len(attempts) == 1
    while subject.is_random and subject.n_in_flight():
        time.sleep(0.01)
    subject.server.faults.clear()
    assert isinstance(subject.complete(subject.ask(TEXT))[0], Answered)


@pytest.mark.parametrize(
    "thinking",
    [None, {"mode": "off"}, {"mode": "on"}, {"mode": "budget", "budget_tokens": 1024}],
    ids=["unsaid", "off", "on", "budget"],
)
def test_every_wish_about_thinking_is_taken(
    thinking: dict[str, Any] | None, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "THINKING_ROOM_TOKENS", 500)  # within the tiny model's context
    endless = subject.is_random and (thinking or {}).get("mode", "unsaid") in {"on", "unsaid"}
    if subject.name == "builtin":
        asked = subject.ask(TEXT, thinking=thinking)
    else:
        asked = subject.structured(3, thinking=thinking, sampling=GREEDY)
    outcome, _ = subject.complete(asked)
    if endless and isinstance(outcome, Unusable):
        assert outcome.reason == "truncated"
        assert outcome.reply.text == ""
    elif subject.name == "builtin":
        assert isinstance(outcome, Answered)
    else:
        assert chosen(outcome) == 3


@pytest.mark.parametrize(
    ("fault", "reason", "transient"),
    [
        ("500", "down", True),
        ("400", "rejected", False),
        ("malformed", "down", True),
        ("shape", "rejected", False),
        ("text", "down", True),
        ("empty", "down", True),
        ("cut", "down", True),
    ],
)
def test_a_failing_provider_is_an_outcome_never_an_error(
    fault: str, reason: str, transient: bool, remote: Subject
) -> None:
    remote.server.faults.extend([fault] * 9)
    outcome, attempts = remote.complete(make_request(model=str(remote.model)))
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == (reason, transient)
    assert remote.server.url.removesuffix("/v1") in outcome.detail
    assert len(attempts) == (transport.MAX_ATTEMPTS if transient else 1)
    assert all(STATUS.fullmatch(attempt.status) for attempt in attempts)


@pytest.mark.parametrize("fault", ["429", "503", "reset"])
def test_what_heals_is_waited_for(fault: str, remote: Subject) -> None:
    remote.server.faults.extend([fault] * 9)
    outcome, attempts = remote.complete(make_request(model=str(remote.model)))
    assert isinstance(outcome, Answered)
    assert len(attempts) == 10
