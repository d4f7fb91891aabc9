"""Budgets: never exceeded, nobody starves, refusals name their numbers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.errors import OverBudget
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import Endpoint
from nemoflows.money.budgets import ROUNDING_USD, Account, Budget
from nemoflows.settings import Settings
from tests.support import request

PRICED = Endpoint(dialect="fake", usd_per_mtok=(1.0, 1.0))


def test_what_fits_is_reserved_at_once() -> None:
    budget = Budget(1.0)
    assert asyncio.run(budget.reserve(0.4)) == 0.4
    assert budget.reserved_usd == 0.4
    budget.count("a", 0.1)
    budget.settle(0.4)
    assert (budget.used_usd, budget.reserved_usd) == (0.1, 0.0)


def test_what_can_never_fit_is_refused_with_the_numbers() -> None:
    budget = Budget(1.0, used={"a": (0.25, None)}, in_doubt_usd=0.125)
    with pytest.raises(OverBudget) as refused:
        asyncio.run(budget.reserve(0.75))
    for number in ("$1.000000", "$0.250000", "$0.125000", "$0.750000"):
        assert number in refused.value.message
    assert budget.reserved_usd == 0.0


def test_what_may_fit_later_waits_and_then_goes() -> None:
    async def work() -> list[str]:
        budget, order = Budget(1.0), []
        held = await budget.reserve(0.8)

        async def other() -> None:
            await budget.reserve(0.7)
            order.append("admitted")

        waiting = asyncio.create_task(other())
        await asyncio.sleep(0)
        order.append("waits")
        budget.count("a", 0.3)
        budget.settle(held)
        await waiting
        return order

    assert asyncio.run(work()) == ["waits", "admitted"]


def test_what_no_longer_can_fit_is_refused_while_it_waits() -> None:
    async def work() -> None:
        budget = Budget(1.0)
        held = await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.7))
        await asyncio.sleep(0)
        budget.count("a", 0.8)
        budget.settle(held)
        with pytest.raises(OverBudget, match=r"\$0\.800000 is used"):
            await waiting

    asyncio.run(work())


def test_first_come_first_served_so_that_a_large_call_does_not_starve() -> None:
    async def work() -> list[str]:
        budget, order = Budget(1.0), []

        async def ask(name: str, usd: float) -> None:
            held = await budget.reserve(usd)
            order.append(name)
            await asyncio.sleep(0)
            budget.settle(held)

        await asyncio.gather(ask("small", 0.6), ask("large", 0.9), ask("late", 0.1))
        return order

    assert asyncio.run(work()) == ["small", "large", "late"]


def test_a_caller_that_is_cancelled_takes_nothing_along() -> None:
    async def work() -> Budget:
        budget = Budget(1.0)
        held = await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.9))
        behind = asyncio.create_task(budget.reserve(0.1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await behind == 0.1
        budget.settle(held)
        budget.settle(0.1)
        return budget

    assert asyncio.run(work()).reserved_usd == pytest.approx(0.0)


def test_a_caller_cancelled_as_its_turn_comes_gives_it_back() -> None:
    async def work() -> Budget:
        budget = Budget(1.0)
        held = await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.9))
        await asyncio.sleep(0)
        budget.settle(held)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return budget

    assert asyncio.run(work()).reserved_usd == pytest.approx(0.0)


def test_a_call_that_was_used_twice_counts_once() -> None:
    budget = Budget(1.0)
    budget.count("a", 0.5)
    budget.count("a", 0.5)
    assert budget.used_usd == 0.5


def test_nothing_is_asked_beside_calls_of_unknown_price() -> None:
    with pytest.raises(OverBudget, match="1 call of unknown price"):
        asyncio.run(Budget(1.0, used={"a": (None, None)}).reserve(0.1))
    with pytest.raises(OverBudget, match="price_key, usd_per_mtok"):
        asyncio.run(Budget(1.0).reserve(None))


def test_without_a_cap_nothing_waits_and_nothing_is_refused() -> None:
    async def work() -> None:
        budget = Budget()
        await asyncio.gather(*(budget.reserve(usd) for usd in (None, 1e9, 1e9)))

    asyncio.run(work())


@given(st.integers(0, 999), st.floats(0.5, 3.0), st.integers(2, 64))
def test_it_is_never_exceeded_and_everyone_ends(seed: int, cap: float, n_agents: int) -> None:
    """Agents that reserve, settle lower, are cut off or cancelled, in any order."""
    draw = random.Random(seed)

    async def work() -> None:
        budget = Budget(cap)

        def check() -> None:
            assert budget.used_usd + budget.reserved_usd <= cap + 1e3 * ROUNDING_USD

        async def agent(number: int) -> None:
            for call in range(draw.randint(1, 4)):
                worst = draw.uniform(0.01, 0.6)
                try:
                    held = await budget.reserve(worst)
                except OverBudget:
                    check()
                    return
                check()
                try:
                    await asyncio.sleep(0)
                    if draw.random() < 0.2:
                        budget.keep(held)
                        held = 0.0
                    else:
                        budget.count(f"{number}.{call}", worst * draw.random())
                finally:
                    budget.settle(held)
                    check()

        agents = [asyncio.create_task(agent(number)) for number in range(n_agents)]
        await asyncio.sleep(0)
        for task in agents:
            if draw.random() < 0.1:
                task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*agents, return_exceptions=True)
        assert budget.reserved_usd == pytest.approx(0.0)

    asyncio.run(work())


def llm(engine: FakeEngine, folder: Path, run: str = "test") -> LLMClient:
    settings = Settings(run=run, endpoints={"fake": PRICED})
    engines = Engines(settings, given={"fake": engine})
    return LLMClient(engines, Journal(str(folder), run=run), settings=settings)


def asks(n: int, account: Account) -> list[CallSpec[str]]:
    return [
        CallSpec(request(str(number)), lambda reply, _: reply.text, account=account)
        for number in range(n)
    ]


def run(work: Callable[[], Awaitable[object]]) -> object:
    async def wrapped() -> object:
        return await work()

    return asyncio.run(wrapped())


def test_a_batch_stops_at_its_budget_and_keeps_what_was_answered(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="fine", usd=0.01, latency_s=0.002)])
    made = llm(engine, tmp_path)
    worst = made.worst_usd(request("0"))
    assert worst is not None
    assert worst < 0.01, "or the cap below does not let five through"
    budget = Budget(0.05 + worst / 2)
    results = asyncio.run(made.batch(asks(64, Account(budget=budget)), max_failed=1.0))
    done = [each for each in results if isinstance(each, Success)]
    failed = [each for each in results if isinstance(each, Failure)]
    assert {each.reason for each in failed} == {"over_budget"}
    assert len(engine.asked) == len(done) < 64
    assert budget.reserved_usd == pytest.approx(0.0)
    assert budget.used_usd == pytest.approx(0.01 * len(done))


def test_a_replay_counts_once_and_is_never_refused(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="fine", usd=0.01)])
    asyncio.run(llm(engine, tmp_path).batch(asks(4, Account())))
    again, budget = llm(engine, tmp_path), Budget(0.03)
    results = asyncio.run(again.batch(asks(4, Account(budget=budget)), max_failed=1.0))
    assert all(isinstance(each, Success) for each in results)
    assert budget.used_usd == pytest.approx(0.04)
    assert len(engine.asked) == 4


def test_a_budget_opened_again_knows_the_work_and_what_is_uncertain(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(contains="hang", fault="hang"), Rule(reply="fine", usd=0.01)])
    made = llm(engine, tmp_path)
    account = Account(scope="s", budget=made.history.open_budget(1.0, scope="s", call_keys=[]))

    async def work() -> None:
        await made.batch(asks(3, account))
        hanging = CallSpec(request("hang"), lambda reply, _: reply.text, account=account)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await made.complete(hanging)

    asyncio.run(work())  # and here the process dies with the last call in flight
    again = llm(engine, tmp_path)
    budget = again.history.open_budget(1.0, scope="s", call_keys=[])
    worst = again.worst_usd(request("hang"))
    assert budget.settled_usd == pytest.approx(0.03)
    assert budget.in_doubt_usd == pytest.approx(worst)
    assert again.history.open_budget(1.0, scope="other", call_keys=[]).used_usd == 0.0


def test_earlier_steps_count_by_their_keys(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="fine", usd=0.01)])
    made = llm(engine, tmp_path)
    results = asyncio.run(made.batch(asks(2, Account())))
    keys = [key for each in results for key in each.calls]
    assert made.history.open_budget(1.0, scope="x", call_keys=keys).used_usd == pytest.approx(0.02)


def test_an_endpoint_without_a_price_is_refused_under_a_budget(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="fine")])
    settings = Settings(run="test", endpoints={"fake": Endpoint(dialect="fake")})
    engines = Engines(settings, given={"fake": engine})
    made = LLMClient(engines, Journal(str(tmp_path), run="test"), settings=settings)
    failed = asyncio.run(made.complete(asks(1, Account(budget=Budget(1.0)))[0]))
    assert isinstance(failed, Failure)
    assert "unknown" in failed.detail
    assert not engine.asked
