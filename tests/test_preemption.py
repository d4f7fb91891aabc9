"""A pod that is taken away: what is in flight lands, nothing new begins, Flyte tries again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nemoflows
from nemoflows.calls import Outcome, Request
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.llm.results import CallSpec
from nemoflows.rag.types import ResearchPlan
from nemoflows.search import build_index
from nemoflows.tasks.flyte.preemption import STATUS, end_gracefully_on_sigterm
from nemoflows.types import ModelRef, Policy
from tests.journals import lines
from tests.loopback import ModelServer
from tests.pods import prepare_pod, run_pod
from tests.support import make_llm, request

QUESTIONS = [f"How long is the Elbe? {n}" for n in range(6)]


class Slow(FakeEngine):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__([Rule(reply="{}")])
        self.go = asyncio.Event()

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        self.asked.append(request)
        await self.go.wait()
        return await super().complete(request, on_attempt)


def test_a_drained_client_lets_calls_land_and_begins_none(tmp_path: Path) -> None:
    engine = Slow()
    llm = make_llm(engine, tmp_path)

    async def work() -> None:
        asks = [CallSpec(request(str(n)), lambda reply, _: reply.text) for n in range(4)]
        flying = [asyncio.ensure_future(llm.complete(ask)) for ask in asks[:3]]
        while llm.in_flight.n_in_flight < 3:  # noqa: ASYNC110  (a count, not an event)
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(llm.drain())
        await asyncio.sleep(0)
        late = asyncio.ensure_future(llm.complete(asks[3]))
        await asyncio.sleep(0.01)
        assert not draining.done()
        engine.go.set()
        await asyncio.wait_for(draining, 5)
        await asyncio.gather(*flying)
        assert not late.done()
        late.cancel()

    asyncio.run(work())
    assert len(llm.spent) == 3
    assert llm.in_doubt() == []


def test_only_the_main_thread_has_a_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(asyncio.to_thread(end_gracefully_on_sigterm, list, asyncio.new_event_loop(), 1.0))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("latency_s", "grace_s", "lost"), [(1.5, 20.0, False), (30.0, 0.5, True)])
def test_a_pod_that_is_taken_away_ends_as_the_system_failing(
    latency_s: float, grace_s: float, *, lost: bool, corpus: Path, tmp_path: Path
) -> None:
    index = build_index(str(corpus), str(tmp_path / "index"))
    plan = ResearchPlan(question="q", questions=QUESTIONS, hops=1)
    policy = Policy(efficient=ModelRef.model_validate("local:tiny"))
    with ModelServer(latency_s=latency_s) as server:
        env = {
            "NEMOFLOWS_ENDPOINTS": server.endpoints(),
            "NEMOFLOWS_JOURNAL": str(tmp_path / "journal"),
            "NEMOFLOWS_HARDWARE": json.dumps({"pod": {"grace_s": grace_s}}),
        }
        inputs = {"plan": plan, "index": index, "policy": policy}
        command, places = prepare_pod(nemoflows.research, tmp_path / "first", env=env, **inputs)
        child = subprocess.Popen(command, **places, stderr=subprocess.PIPE, text=True)
        while len(server.requests) < len(QUESTIONS):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=240)
        assert child.returncode == STATUS == 143
        assert list((tmp_path / "first" / "out").iterdir()) == [], "no error and no outputs"
        assert "6 in flight" in said
        assert ("did not finish" in said) is lost
        assert len(server.requests) == len(QUESTIONS), "nothing new was begun"
        server.latency_s = 0.0
        done = run_pod(nemoflows.research, tmp_path / "second", env=env, **inputs)
        assert done.outputs is not None, done.log
        purposes = server.purposes()
    assert purposes.count("extract") == len(QUESTIONS) * (2 if lost else 1)
    told = lines(tmp_path / "journal", "intents")
    assert len(told) >= len(QUESTIONS)
    assert all(json.loads(line)["kind"] in {"begun", "ended"} for line in told)


def test_gpu_tasks_may_run_on_nodes_that_are_taken_away() -> None:
    code = (
        "import nemoflows; "
        "print([getattr(nemoflows, n).metadata.interruptible for n in "
        "('research', 'extract', 'synthesise', 'retrieve')])"
    )
    for efficient, expected in (
        ("vllm:x/y", [True, True, False, False]),
        ("builtin", [False] * 4),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NEMOFLOWS_EFFICIENT": efficient},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == str(expected)
