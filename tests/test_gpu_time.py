"""GPU time: shared among calls, apart from starting, loading and waiting."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec
from nemoflows.models import Endpoint
from nemoflows.money.gpu_time import GpuClock, GpuUse, process_age_s
from nemoflows.money.ledger import usd
from nemoflows.reporting import assemble, notes_of
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.support import request

RENTED = Endpoint(dialect="vllm", usd_per_gpu_hour=3.6, gpus=2)
"""Two thousandths of a dollar a second."""


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_calls_that_run_at_once_share_the_time() -> None:
    hand = Hand()
    clock = GpuClock(hand)
    first = clock.begin()
    hand.at += 1.0
    second = clock.begin()
    hand.at += 2.0
    assert clock.end(first) == pytest.approx(2.0), "one second alone, two seconds halved"
    hand.at += 1.0
    assert clock.end(second) == pytest.approx(2.0)
    assert clock.busy_s == pytest.approx(4.0)


def test_what_was_no_call_is_starting_loading_or_waiting() -> None:
    hand = Hand()
    clock = GpuClock(hand)
    hand.at += 30.0
    clock.loaded(30.0)
    mark = clock.begin()
    hand.at += 10.0
    clock.end(mark)
    hand.at += 5.0
    used = clock.used("vllm:x", RENTED, before_s=20.0)
    assert (used.start_s, used.load_s, used.busy_s, used.idle_s) == (20.0, 30.0, 10.0, 5.0)
    assert used.usd_per_s == pytest.approx(0.002)
    assert used.overhead_usd == pytest.approx(0.11)


@given(st.integers(0, 999))
def test_the_shares_add_up_to_the_time_that_was_busy(seed: int) -> None:
    draw, hand = random.Random(seed), Hand()
    clock, shares = GpuClock(hand), 0.0
    running: list[float] = []
    for _ in range(draw.randint(1, 40)):
        hand.at += draw.random()
        if running and draw.random() < 0.5:
            shares += clock.end(running.pop(draw.randrange(len(running))))
        else:
            running.append(clock.begin())
    for mark in running:
        hand.at += draw.random()
        shares += clock.end(mark)
    assert shares == pytest.approx(clock.busy_s)


class Slow(FakeEngine):
    """An engine that takes a while to start."""

    n_loads = 0

    async def load(self, model: ModelRef) -> None:
        assert model.endpoint == "vllm"
        self.n_loads += 1
        if self.n_loads == 1:
            await asyncio.sleep(0.2)


def test_calls_cost_their_share_and_the_run_what_lies_beside_them(tmp_path: Path) -> None:
    engine = Slow([Rule(reply="fine", latency_s=0.1)])
    settings = Settings(run="test", endpoints={"vllm": RENTED})
    engines = Engines(settings, given={"vllm": engine})
    llm = LLMClient(engines, Journal(str(tmp_path), run="test"), settings=settings)
    asks = [
        CallSpec(request(str(n), model="vllm:x"), lambda reply, _: reply.text) for n in range(8)
    ]
    asyncio.run(llm.batch(asks))
    llm.flush()
    [used] = map(GpuUse.model_validate_json, llm.journal.gpu_notes())
    prices = [call.usd for call in llm.spent]
    assert None not in prices
    assert sum(usd or 0.0 for usd in prices) == pytest.approx(0.002 * used.busy_s)
    assert 0.1 <= used.busy_s < 0.2 + 0.1, "eight at once are not eight times as long"
    assert used.load_s >= 0.2
    assert used.start_s == pytest.approx(process_age_s(), abs=5.0)
    assert engine.n_loads == 8
    told = assemble(notes_of(llm.history), llm.history, llm.settings)
    assert told.work_usd == pytest.approx(told.ledger.usd + used.overhead_usd)
    assert str(told.ledger).startswith(f"cost: {usd(told.work_usd)} for 8 calls and ")


def test_a_servers_waiting_is_not_this_runs(tmp_path: Path) -> None:
    own = RENTED.model_copy(update={"dialect": "fake"})
    settings = Settings(run="test", endpoints={"near": own})
    engines = Engines(settings, given={"near": FakeEngine([Rule(reply="fine", latency_s=0.05)])})
    llm = LLMClient(engines, Journal(str(tmp_path), run="test"), settings=settings)
    asyncio.run(llm.complete(CallSpec(request(model="near:x"), lambda reply, _: reply.text)))
    llm.flush()
    [used] = map(GpuUse.model_validate_json, llm.journal.gpu_notes())
    assert used.overhead_usd == 0.0
    assert used.busy_s >= 0.05
