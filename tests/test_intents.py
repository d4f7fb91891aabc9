"""Attempts are announced before they are made, so that one cut off is known to be in doubt."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request, Unanswered
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.journal import Intent, Journal, Record
from nemoflows.journal.records import in_doubt, is_in_doubt
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec
from nemoflows.models import Endpoint
from nemoflows.money.ledger import fold
from nemoflows.settings import Settings
from tests.journals import content, key_of, only_record, opened, recorded, rewrite
from tests.journals import lines as lines_in
from tests.loopback import ModelServer
from tests.support import ROOT, make_llm, request


def ask(llm: LLMClient, text: str = "hello") -> None:
    asyncio.run(llm.complete(CallSpec(request(text), lambda reply, _: reply.text)))


@pytest.mark.parametrize(
    ("status", "certain"),
    [
        ("RateLimitError 429", True),
        ("InternalServerError 500", True),
        ("unsent", True),
        ("NotConnected", True),
        ("ErrorReplyError", True),
        ("PageReplyError", True),
        ("APIStatusError 302", True),
        ("ErrorReplyError 502", True),
        ("APIStatusError 502", False),
        ("APIConnectionError", False),
        ("MalformedReplyError", False),
        ("cancelled", False),
        ("deadline", False),
    ],
)
def test_only_a_refusal_is_certainly_not_billed(status: str, *, certain: bool) -> None:
    assert is_in_doubt(status) is not certain


def lines(*intents: Intent) -> list[Intent]:
    return [Intent.model_validate_json(intent.model_dump_json()) for intent in intents]


def begun(key: str, number: int) -> Intent:
    return Intent(
        kind="begun", key=key, number=number, at_s=1.0 * number, purpose="plan", model="a:b"
    )


def ended(key: str, number: int, status: str) -> Intent:
    return Intent(kind="ended", key=key, number=number, at_s=2.0, status=status)


def test_what_was_begun_and_neither_recorded_nor_ended_was_killed() -> None:
    told = lines(begun("k1", 1), begun("k2", 1))
    [cut] = in_doubt("w", told, answered={"k1"})
    assert (cut.key, cut.number, cut.why, cut.writer) == ("k2", 1, "killed", "w")
    assert (cut.purpose, cut.model) == ("plan", "a:b")


def test_each_attempt_of_a_call_is_told_apart() -> None:
    told = lines(
        begun("k", 1), ended("k", 1, "RateLimitError 429"),
        begun("k", 2), ended("k", 2, "APIConnectionError"),
        begun("k", 3),
    )  # fmt: skip
    assert [(cut.number, cut.why) for cut in in_doubt("w", told, answered={"k"})] == [
        (2, "APIConnectionError")
    ]
    assert [cut.number for cut in in_doubt("w", told, answered=set())] == [2, 3]


def test_an_answered_call_leaves_nothing_uncertain(tmp_path: Path) -> None:
    llm = make_llm(FakeEngine([Rule(reply="{}")]), tmp_path)
    for n in range(5):
        ask(llm, str(n))
    assert llm.in_doubt() == []


class Fails(FakeEngine):
    """Reports attempts that failed before its answer, or instead of one."""

    def __init__(self, *statuses: str, answers: bool) -> None:
        super().__init__([Rule(reply="{}")])
        self.statuses, self.answers = statuses, answers

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        self.asked.append(request)
        for number, status in enumerate(self.statuses, 1):
            on_attempt(Attempt(number=number, started_s=1, ended_s=2, status=status))
        if self.answers:
            number = len(self.statuses) + 1
            on_attempt(Attempt(number=number, started_s=1, ended_s=2, status="ok"))
            return Answered(reply=Reply(text="{}"))
        return Unanswered(reason="down", detail="gone", transient=True)


@pytest.mark.parametrize("answers", [True, False])
def test_refusals_are_certain_and_broken_connections_are_not(
    tmp_path: Path, *, answers: bool
) -> None:
    engine = Fails("InternalServerError 500", "APIConnectionError", answers=answers)
    llm = make_llm(engine, tmp_path)
    ask(llm)
    assert [(cut.number, cut.why) for cut in llm.in_doubt()] == [(2, "APIConnectionError")]


def test_a_cancelled_call_is_uncertain_once(tmp_path: Path) -> None:
    class Cancelled(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            del request
            on_attempt(Attempt(number=1, started_s=1, ended_s=2, status="cancelled"))
            raise asyncio.CancelledError

    llm = make_llm(Cancelled([Rule(reply="{}")]), tmp_path)
    with pytest.raises(asyncio.CancelledError):
        ask(llm)
    assert [cut.why for cut in llm.in_doubt()] == ["cancelled"]


KILLED = """
import asyncio, json, sys
from nemoflows.llm.results import CallSpec
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from tests.support import request

url, root, n_asks, rpm = sys.argv[1:]
near = Endpoint(dialect="openai", base_url=url, rpm=int(rpm) or None)
settings = Settings(run="killed", endpoints={"near": near})
llm = LLMClient(Engines(settings), Journal(root, run="killed"), settings=settings)
each = [request(str(n), model="near:tiny") for n in range(int(n_asks))]
asks = [CallSpec(one, lambda reply, _: reply.text) for one in each]
asyncio.run(llm.batch(asks))
"""


def started(url: str, root: str, n_asks: int, rpm: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, url, root, str(n_asks), str(rpm)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(("rpm", "n_seen"), [(30, 2), (240, 1), (240, 25), (0, 1), (0, 9), (0, 40)])
def test_only_what_was_sent_is_in_doubt(rpm: int, n_seen: int, root: str) -> None:
    """Whatever waits for a limit, a place or a connection when the process is killed.

    An announcement lies before its bytes leave: the process is killed at a moment when the server
    has seen as many, which never comes where one is announced that waits.
    """
    with ModelServer(latency_s=0.05) as server:
        child = started(server.url, root, 400, rpm)
        while len(server.requests) < n_seen or not all_are_seen(child, server, root):
            child.send_signal(signal.SIGCONT)
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    cut = Journal(root, run="killed").in_doubt()
    assert len(cut) == len(server.requests) - len(recorded(root))


def all_are_seen(child: subprocess.Popen[bytes], server: ModelServer, root: str) -> bool:
    """Stop a process; tell whether the server has seen all that it announced."""
    child.send_signal(signal.SIGSTOP)
    n_seen = -1
    while n_seen < len(server.requests):
        n_seen = len(server.requests)
        time.sleep(0.1)
    told = [line for line in lines_in(root, "intents") if b'"begun"' in line]
    return len(told) == n_seen


def test_whatever_a_server_sees_was_announced_before(root: str) -> None:
    def look(_: str) -> None:
        told = [line for line in lines_in(root, "intents") if b'"begun"' in line]
        announced.append(len(told) >= len(server.requests))

    announced: list[bool] = []
    with ModelServer() as server:
        server.on_request = look
        server.faults.extend(["500", "", "429:0", ""])
        assert started(server.url, root, 12).wait() == 0
    assert announced == [True] * 14


@pytest.mark.parametrize("kind", ["refused", "closed"])
def test_an_attempt_that_reached_nobody_is_not_in_doubt(kind: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        near = Endpoint(dialect="openai", base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        settings = Settings(run="r", endpoints={"near": near}, deadline_s=2)
        llm = LLMClient(Engines(settings), Journal(str(tmp_path), run="r"), settings=settings)
        llm._contexts["near:tiny"] = None  # asked for its models already
        if kind == "closed":
            asyncio.run(llm.drain())
        spec = CallSpec(request(model="near:tiny"), lambda reply, _: reply.text)

        async def work() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(llm.complete(spec), 3)

        asyncio.run(work())
    assert llm.in_doubt() == []


def test_a_killed_process_leaves_what_was_in_flight_in_doubt(root: str) -> None:
    with ModelServer() as server:
        server.faults.extend(["", "", "hang:20", "hang:20", "hang:20", "hang:20"])
        child = started(server.url, root, 6)
        while len(server.requests) < 6 or len(recorded(root)) < 2:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
    cut = Journal(root, run="killed").in_doubt()
    assert len(cut) == 4
    assert {(attempt.why, attempt.model, attempt.purpose) for attempt in cut} == {
        ("killed", "near:tiny", "summarise")
    }
    assert Journal(root, run="another").in_doubt() == []


def test_an_object_store_takes_two_puts_per_call() -> None:
    root = f"memory://{uuid.uuid4()}"
    llm = make_llm(FakeEngine([Rule(reply="{}")]), root)
    for n in range(5):
        ask(llm, str(n))
    files, inner = fsspec.core.url_to_fs(root)
    names = [path.removeprefix(inner).split("/")[1] for path in files.find(inner)]
    assert sorted(names) == ["calls"] * 5 + ["intents"] * 5


def test_the_ledger_says_how_many_are_in_doubt() -> None:
    told = str(fold([], n_unrecorded=1, n_in_doubt=3))
    assert "3 attempts cut off, perhaps billed" in told


def test_a_damaged_record_is_set_aside(root: str) -> None:
    journal = Journal(root, run="r")
    llm = make_llm(FakeEngine([Rule(reply="{}")]), root)
    ask(llm)
    name, _ = only_record(root)
    rewrite(root, name, b"{torn")
    assert journal.get(key_of(name)) is None
    assert recorded(root) == {}
    assert list(content(root, "damaged").values()) == [b"{torn"]
    assert journal.n_damaged == 1


def test_a_record_under_another_key_is_damaged(root: str) -> None:
    journal = Journal(root, run="r")
    made = Record(
        key="ab" * 32, purpose="plan", model="a:b", request=request(), usd=None,
        outcome=Answered(reply=Reply(text="x")), started_s=1, ended_s=2,
    )  # fmt: skip
    journal.put(made)
    opened(root).move(f"calls/ab/{made.key}.json", f"calls/ab/ab{'cd' * 31}.json")
    assert journal.outcome("ab" + "cd" * 31) is None
    assert journal.n_damaged == 1


def test_half_a_last_line_is_none(root: str) -> None:
    journal = Journal(root, run="r")
    journal.begin(begun("k", 1))
    [name] = content(root, "intents")
    assert opened(root).append(name, b'{"kind": "beg')
    assert [cut.key for cut in Journal(root, run="r").in_doubt()] == ["k"]
