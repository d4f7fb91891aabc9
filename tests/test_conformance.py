"""One suite for every engine: what the door relies on, whoever answers.

The paid remote engines are the real SDKs against a server on loopback.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from nemoflows import prompts, replies
from nemoflows.asks import Ask
from nemoflows.calls import (
    Answered,
    Attempt,
    Message,
    Outcome,
    Part,
    Reply,
    Request,
    Unanswered,
    Unusable,
    user,
)
from nemoflows.costs import Ledger, fold
from nemoflows.engines import line
from nemoflows.engines.anthropic import Anthropic
from nemoflows.engines.embedded import Embedded
from nemoflows.engines.openai import OpenAI
from nemoflows.engines.protocol import Engine
from nemoflows.engines.registry import Engines
from nemoflows.engines.scripted import Fault, Rule, Scripted, request_text
from nemoflows.errors import BadModel
from nemoflows.journal import Journal
from nemoflows.llm import Door
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.types import Evidence, Finding, ModelRef, Passage
from tests.loopback import ModelServer, completion
from tests.support import request

T = TypeVar("T")
REMOTE = ("openai", "anthropic")
NAMES = ("embedded", "scripted", *REMOTE)
STATUS = re.compile(r"ok|cancelled|[A-Za-z]+( \d{3})?")
QUESTION = "How long is the Elbe?"
TEXT = "The Elbe rises in Bohemia. It is 1,094 kilometres long."
PASSAGES = [
    Passage(id="e:0", document="e.md", start=7, end=7 + len(TEXT), text=TEXT, heading="The Elbe"),
]
FINDINGS = [
    Finding(
        question=QUESTION,
        summary="The Elbe is 1,094 kilometres long.",
        evidence=[Evidence(quote=TEXT, document="e.md", start=7, end=7 + len(TEXT))],
    )
]
FAULTS = {
    "openai": {"truncated": "length", "refused": "content_filter"},
    "anthropic": {"truncated": "max_tokens", "refused": "refusal"},
}
"""How the server's replies end where they cannot be used."""


@dataclass(frozen=True)
class Subject:
    """An engine under test: how it is made, asked and made to fail."""

    name: str
    server: ModelServer
    rules: list[Rule]
    """What the script says before it answers sensibly."""

    @property
    def model(self) -> ModelRef:
        return ModelRef.model_validate("embedded" if self.name == "embedded" else f"{self.name}:t")

    def make(self, *, deadline_s: float = 60) -> Engine:
        match self.name:
            case "embedded":
                return Embedded()
            case "scripted":
                return Scripted(self.rules) if self.rules else Scripted(answer=sensible)
            case "openai":
                endpoint = Endpoint(dialect="openai", base_url=self.server.url)
                return OpenAI(endpoint, name="openai", deadline_s=deadline_s)
            case _:
                url = self.server.url.removesuffix("/v1")
                endpoint = Endpoint(dialect="anthropic", base_url=url)
                return Anthropic(endpoint, name="anthropic", deadline_s=deadline_s)

    def drive(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        """Use a new engine on one loop and close it there."""

        async def whole() -> T:
            engine = self.make()
            try:
                return await work(engine)
            finally:
                await engine.aclose()

        return asyncio.run(whole())

    def complete(self, asked: Request) -> tuple[Outcome, list[Attempt]]:
        attempts: list[Attempt] = []
        return self.drive(lambda engine: engine.complete(asked, attempts.append)), attempts

    def answer(self, asked: Request) -> Reply:
        outcome, _ = self.complete(asked)
        assert isinstance(outcome, Answered), outcome
        return outcome.reply

    def fail(self, reason: Fault) -> None:
        """Make the next call end in `reason`, or skip where the engine cannot."""
        if self.name == "scripted":
            self.rules.append(Rule(fault=reason, times=1))
            self.rules.append(Rule(reply="{}"))
        elif self.name in FAULTS:
            self.server.faults.append(FAULTS[self.name][reason])
        else:
            pytest.skip(f"the embedded tier is never {reason} by a provider: it has none")


def sensible(asked: Request) -> str:
    """Return what the server on loopback would reply."""
    schema = {"json_schema": {"schema": asked.json_schema or {}}}
    turns = [{"content": request_text(asked)}]
    body = {"model": "t", "messages": turns, "response_format": schema}
    return str(completion(body, {}, finish="")["choices"][0]["message"]["content"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts; their number stays."""
    monkeypatch.setattr(line, "first_pause_s", lambda: 0.001)


@pytest.fixture(scope="module")
def shared() -> Iterator[ModelServer]:
    with ModelServer(models=("t",)) as server:
        yield server


@pytest.fixture
def server(shared: ModelServer) -> ModelServer:
    """Return the one server of this module as new: starting one takes longer than a test."""
    for kept in (shared.faults, shared.requests, shared.authorizations, shared.replies):
        kept.clear()
    return shared


@pytest.fixture(params=NAMES)
def subject(request: pytest.FixtureRequest, server: ModelServer) -> Subject:
    return Subject(request.param, server, [])


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, server: ModelServer) -> Subject:
    return Subject(request.param, server, [])


def test_free_text_is_answered(subject: Subject) -> None:
    reply = subject.answer(request(TEXT, model=str(subject.model), purpose="chat"))
    assert reply.text
    assert (reply.stop, reply.tool_calls) == ("end", [])


def test_a_system_prompt_is_taken_and_read(subject: Subject) -> None:
    asked = request(TEXT, model=str(subject.model), purpose="chat", system="Be brief as a bird.")
    assert subject.answer(asked).text
    if subject.name in REMOTE:
        assert "Be brief as a bird." in json.dumps(subject.server.requests)


def test_a_plan_is_read(subject: Subject) -> None:
    reply = subject.answer(prompts.plan(QUESTION, n=3, model=subject.model))
    assert replies.read_plan(reply, n=3) == [QUESTION]


def test_quotes_are_read_and_stand_in_their_passage(subject: Subject) -> None:
    reply = subject.answer(prompts.extract(QUESTION, PASSAGES, model=subject.model))
    found = replies.read_quotes(reply, PASSAGES, final=False)
    assert found
    for quote in found:
        assert TEXT[quote.start - 7 : quote.end - 7] == quote.quote


def test_a_query_is_read(subject: Subject) -> None:
    asked = prompts.rewrite(QUESTION, PASSAGES, [QUESTION], model=subject.model)
    assert replies.read_query(subject.answer(asked)) != QUESTION


def test_a_summary_is_read(subject: Subject) -> None:
    evidence = FINDINGS[0].evidence
    reply = subject.answer(prompts.summarise(QUESTION, evidence, model=subject.model))
    assert replies.read_summary(reply)


def test_an_answer_is_read_and_its_citations_resolve(subject: Subject) -> None:
    reply = subject.answer(prompts.synthesise(QUESTION, FINDINGS, model=subject.model))
    written = replies.read_answer(reply, FINDINGS, final=False)
    assert "[1]" in written.text
    assert [citation.document for citation in written.citations] == ["e.md"]
    assert written.dropped == []


def test_a_reply_that_is_cut_off_is_typed_and_kept(subject: Subject) -> None:
    asked = prompts.synthesise(QUESTION, FINDINGS, model=subject.model)
    if subject.name == "embedded":
        asked = asked.model_copy(update={"max_output_tokens": 2})
    else:
        subject.fail("truncated")
    outcome, _ = subject.complete(asked)
    assert isinstance(outcome, Unusable)
    assert (outcome.reason, outcome.reply.stop) == ("truncated", "length")
    assert outcome.detail


def test_a_refusal_is_typed_and_keeps_its_usage(subject: Subject) -> None:
    subject.fail("refused")
    outcome, attempts = subject.complete(request(model=str(subject.model)))
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
        asked = request(TEXT, model=str(subject.model), purpose="chat")
        task = asyncio.ensure_future(engine.complete(asked, attempts.append))
        while subject.name in REMOTE and not subject.server.requests:  # noqa: ASYNC110  (threads)
            await asyncio.sleep(0.005)
        if subject.name == "scripted":
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await engine.complete(asked, lambda _: None)

    outcome = subject.drive(work)
    assert isinstance(outcome, Answered)
    if subject.name in REMOTE:
        assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_64_calls_at_once_get_each_its_own_answer(subject: Subject) -> None:
    questions = [f"How deep is the lake number {n}?" for n in range(64)]
    attempts: list[list[Attempt]] = [[] for _ in questions]

    async def work(engine: Engine) -> list[Outcome]:
        asked = [prompts.plan(question, n=2, model=subject.model) for question in questions]
        calls = zip(asked, attempts, strict=True)
        return await asyncio.gather(*(engine.complete(one, to.append) for one, to in calls))

    outcomes = subject.drive(work)
    read = [replies.read_plan(o.reply, n=2) for o in outcomes if isinstance(o, Answered)]
    assert read == [[question] for question in questions]
    assert {len(one) for one in attempts} == {0 if subject.name == "embedded" else 1}


def test_usage_has_one_meaning(subject: Subject) -> None:
    usage = subject.answer(request(TEXT, model=str(subject.model), purpose="chat")).usage
    if subject.name == "embedded":
        assert usage is None, "the free tier counts nothing"
        return
    assert usage is not None
    assert all(count >= 0 for count in usage.model_dump().values())
    assert usage.input_tokens > 0
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
    assert usage + usage == usage.model_copy(
        update={name: 2 * count for name, count in usage.model_dump().items()}
    )


def ledger(
    subject: Subject, folder: Path, endpoint: Endpoint, engine: Callable[[], Engine]
) -> Ledger:
    settings = Settings(run="test", endpoints={subject.name: endpoint})

    async def work() -> list[Any]:
        engines = Engines(settings, given={subject.name: engine()})
        door = Door(engines, Journal(str(folder), run="test"), settings=settings)
        await door.ask(Ask(request(model=str(subject.model)), lambda reply, _: reply.text))
        await door.aclose()
        return list(door.spent)

    return fold(asyncio.run(work()))


def test_a_call_of_unknown_price_is_counted_and_never_free(
    subject: Subject, tmp_path: Path
) -> None:
    if subject.name == "embedded":
        pytest.skip("is free and not recorded")
    endpoint = Endpoint(dialect="scripted")
    total = ledger(subject, tmp_path, endpoint, subject.make)
    assert (total.n_calls, total.n_unpriced) == (1, 1)
    assert "1 of unknown price" in str(total)


class NoUsage(BaseHTTPRequestHandler):
    """A server of the OpenAI dialect that does not say what it used, as some do."""

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._send({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole = completion(body, {}, finish="")
        self._send({name: value for name, value in whole.items() if name != "usage"})

    def _send(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_a_call_without_usage_is_of_unknown_price_even_where_prices_are_known(
    server: ModelServer, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoUsage) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        endpoint = Endpoint(dialect="openai", base_url=url, usd_per_mtok=(1.0, 10.0))

        def make() -> Engine:
            return OpenAI(endpoint, name="openai", deadline_s=60)

        total = ledger(Subject("openai", server, []), tmp_path, endpoint, make)
        http.shutdown()
    assert (total.n_calls, total.n_unpriced, total.usd) == (1, 1, 0.0)


def test_a_paid_engine_reports_its_attempts_and_a_free_one_none(subject: Subject) -> None:
    if subject.name in REMOTE:
        subject.server.faults.extend(["500", "reset"])
    _, attempts = subject.complete(request(model=str(subject.model)))
    expected = {"embedded": 0, "scripted": 1}.get(subject.name, 3)
    assert [attempt.number for attempt in attempts] == list(range(1, expected + 1))
    assert subject.make().paid == bool(attempts)
    for attempt in attempts:
        assert attempt.started_s <= attempt.ended_s
        assert STATUS.fullmatch(attempt.status)


def test_a_reply_survives_json_whole_opaque_blocks_included(subject: Subject) -> None:
    reply = subject.answer(request(TEXT, model=str(subject.model), purpose="chat"))
    again = Reply.model_validate_json(reply.model_dump_json())
    assert again == reply
    assert json.dumps(again.blocks) == json.dumps(reply.blocks)
    assert bool(reply.blocks) == (subject.name == "anthropic")


def test_a_reply_can_be_followed_by_another_turn(subject: Subject) -> None:
    subject.server.replies["chat"] = "fine"
    first = request(TEXT, model=str(subject.model), purpose="chat")
    reply = subject.answer(first)
    turn = Message(role="assistant", parts=[Part(text=reply.text)], blocks=reply.blocks)
    turns = [*first.messages, turn, user([Part(text="The Danube is a river. And then?")])]
    assert subject.answer(first.model_copy(update={"messages": turns})).text


def test_identity_and_adapter_are_the_same_in_every_engine(subject: Subject) -> None:
    one, two = subject.make(), subject.make()
    assert one.identity(subject.model) == two.identity(subject.model)
    assert one.identity(subject.model).startswith(str(subject.model))
    assert one.adapter == two.adapter
    assert re.fullmatch(rf"{subject.name}-\d+", one.adapter)


def test_the_same_request_has_one_key_and_another_model_another(subject: Subject) -> None:
    def key(question: str, model: ModelRef) -> str:
        engine = subject.make()
        asked = prompts.plan(question, n=3, model=model)
        return asked.key(identity=engine.identity(model), adapter=engine.adapter)

    other = subject.model.model_copy(update={"name": "other"})
    assert key(QUESTION, subject.model) == key(QUESTION, subject.model)
    assert key(QUESTION, subject.model) != key(QUESTION, other)
    assert key(QUESTION, subject.model) != key(f"{QUESTION} ", subject.model)


def test_preflight_asks_nothing_that_costs(subject: Subject) -> None:
    subject.drive(lambda engine: engine.preflight(subject.model))
    assert subject.server.requests == []


def test_closing_twice_is_harmless(subject: Subject) -> None:
    async def work(engine: Engine) -> Outcome:
        outcome = await engine.complete(request(TEXT, model=str(subject.model)), lambda _: None)
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


def test_relevances_come_or_are_refused_by_name(subject: Subject) -> None:
    texts = ["Bread keeps for a week.", TEXT]
    try:
        found = subject.drive(lambda engine: engine.rerank(subject.model, QUESTION, texts))
    except BadModel as error:
        assert str(subject.model) in error.message  # noqa: PT017  (either end is the claim)
        assert subject.name != "embedded"
    else:
        assert found[1] > found[0]


@pytest.mark.parametrize(
    "thinking",
    [None, {"mode": "off"}, {"mode": "on"}, {"mode": "budget", "budget_tokens": 2000}],
    ids=["unsaid", "off", "on", "budget"],
)
def test_every_wish_about_thinking_is_taken(
    thinking: dict[str, Any] | None, subject: Subject
) -> None:
    model = "anthropic:claude-haiku-4-5" if subject.name == "anthropic" else str(subject.model)
    asked = request(TEXT, model=model, purpose="chat", thinking=thinking, max_output_tokens=4096)
    assert subject.answer(asked).text


@pytest.mark.parametrize(
    ("fault", "reason", "transient"),
    [
        ("500", "down", True),
        ("429", "rate_limited", True),
        ("400", "rejected", False),
        ("reset", "down", True),
        ("malformed", "down", True),
        ("shape", "down", True),
        ("text", "down", True),
        ("empty", "down", True),
        ("cut", "down", True),
    ],
)
def test_a_failing_provider_is_an_outcome_never_an_error(
    fault: str, reason: str, transient: bool, remote: Subject
) -> None:
    remote.server.faults.extend([fault] * 9)
    outcome, attempts = remote.complete(request(model=str(remote.model)))
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == (reason, transient)
    assert remote.server.url.removesuffix("/v1") in outcome.detail
    assert len(attempts) == (line.MAX_ATTEMPTS if transient else 1)
    assert all(STATUS.fullmatch(attempt.status) for attempt in attempts)
