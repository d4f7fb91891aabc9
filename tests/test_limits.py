"""The pace of one endpoint: calls at once found by trying, limits per minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.remote import driven
from nemoflows.engines.http import limits
from nemoflows.engines.http.limits import AdaptiveConcurrency, RateLimiter


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr("nemoflows.engines.http.limits.monotonic", lambda: self.now_s)


async def crowd(at_once: AdaptiveConcurrency, n: int, call: Callable[[], Awaitable[None]]) -> None:
    async def one() -> None:
        async with at_once.slot():
            await call()

    await asyncio.gather(*(one() for _ in range(n)))


def test_no_more_calls_are_in_flight_than_the_limit() -> None:
    at_once, seen = AdaptiveConcurrency(5), []

    async def call() -> None:
        seen.append(at_once.in_flight)
        await asyncio.sleep(0)

    asyncio.run(crowd(at_once, 40, call))
    assert max(seen) == 5
    assert at_once.in_flight == 0


def test_places_are_given_first_come_first_served() -> None:
    at_once, order = AdaptiveConcurrency(1), []

    async def one(n: int) -> None:
        async with at_once.slot():
            order.append(n)
            await asyncio.sleep(0)

    async def work() -> None:
        await asyncio.gather(*(one(n) for n in range(9)))

    asyncio.run(work())
    assert order == list(range(9))


def test_a_cancelled_waiter_leaves_its_place_to_others() -> None:
    at_once = AdaptiveConcurrency(1)

    async def work() -> int:
        done = 0

        async def one() -> None:
            nonlocal done
            async with at_once.slot():
                await asyncio.sleep(0.001)
                done += 1

        tasks = [asyncio.ensure_future(one()) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert asyncio.run(work()) == 3
    assert at_once.in_flight == 0


def test_a_waiter_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    at_once = AdaptiveConcurrency(1)

    async def hold() -> None:
        async with at_once.slot():
            await asyncio.sleep(60)

    async def work() -> None:
        async with at_once.slot():
            waiting = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(work())
    assert at_once.in_flight == 0


def test_the_limit_grows_while_calls_are_answered_and_never_above_the_most() -> None:
    at_once = AdaptiveConcurrency(64)
    for _ in range(32):
        at_once.answered()
    assert at_once.limit == limits.START + 32 * limits.SLOW_START_GAIN
    for _ in range(1000):
        at_once.answered()
    assert at_once.limit == 64


def test_a_refusal_says_how_many_were_accepted_and_more_is_tried_only_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, at_once = Clock(monkeypatch), AdaptiveConcurrency(64)
    at_once.limit, at_once.in_flight = 24.0, 24
    for _ in range(4):  # of 24 in flight four are refused, so twenty were accepted
        at_once.refused()
        at_once.in_flight -= 1
    assert at_once.limit == 20 * limits.SAFETY
    for _ in range(100):
        at_once.answered()
    assert at_once.limit == 20 * limits.SAFETY
    clock.now_s += limits.FIRST_PROBE_S
    at_once.answered()
    assert at_once.limit > 20 * limits.SAFETY


def test_one_burst_of_refusals_halves_the_limit_at_most_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, at_once = Clock(monkeypatch), AdaptiveConcurrency(64)
    at_once.limit, at_once.in_flight = 64.0, 64
    while at_once.in_flight:
        at_once.refused()
        at_once.in_flight -= 1
    assert at_once.limit == 32
    clock.now_s += 10
    at_once.in_flight = 1
    at_once.refused()
    assert at_once.limit == 16


def test_each_refusal_makes_the_next_try_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, at_once = Clock(monkeypatch), AdaptiveConcurrency(64)
    at_once.in_flight = 11
    for waits_s in (2.0, 4.0, 8.0):
        at_once.refused()
        held = at_once.limit
        clock.now_s += waits_s - 0.1
        at_once.answered()
        assert at_once.limit <= max(held, 10 * limits.SAFETY)
        clock.now_s += 0.2
        at_once.answered()
        assert at_once.limit > held
        clock.now_s += 1.0


def test_a_pause_that_is_asked_for_makes_trying_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, at_once = Clock(monkeypatch), AdaptiveConcurrency(64)
    at_once.in_flight = 11
    at_once.refused(pause_s=1.0)
    held = at_once.limit
    clock.now_s += limits.PROBE_PAUSES - 1
    at_once.answered()
    assert at_once.limit == held


@pytest.mark.parametrize("retry_after", ["", "1"])
def test_a_hidden_cap_is_found_over_real_sockets(retry_after: str, tmp_path: Path) -> None:
    # Slow enough that a machine at a fifth of its speed still has 20 calls in flight.
    answered, seen = driven(4.0, tmp_path, latency_s=0.4, cap=20, retry_after=retry_after)
    assert answered == seen["answered"]
    assert seen["most"] == 20
    assert 0 < seen["refused"] <= limits.START, "one burst at the first try, and few after it"


def test_requests_per_minute_are_kept_after_a_burst() -> None:
    limiter = RateLimiter(600, None, None)  # 10 a second, 50 at once

    async def work() -> float:
        started_s = time.monotonic()
        await asyncio.gather(*(limiter.take(1, 1) for _ in range(60)))
        return time.monotonic() - started_s

    assert asyncio.run(work()) >= 0.95


def test_without_limits_nobody_waits() -> None:
    async def work() -> None:
        await asyncio.gather(*(RateLimiter(None, None, None).take(1e9, 1e9) for _ in range(1000)))

    asyncio.run(asyncio.wait_for(work(), 5))


def test_what_was_not_used_is_given_back_and_what_was_overdrawn_is_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, limiter = Clock(monkeypatch), RateLimiter(None, 60_000, None)  # 1,000/s, 5,000 held
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now_s += seconds

    monkeypatch.setattr("nemoflows.engines.http.limits.asyncio.sleep", sleep)

    async def work() -> None:
        await limiter.take(5_000, 0)
        limiter.settle((5_000, 0), (2_000, 0))
        await limiter.take(3_000, 0)
        assert slept == []
        limiter.settle((3_000, 0), (5_000, 0))
        await limiter.take(1_000, 0)

    asyncio.run(work())
    assert sum(slept) == pytest.approx(3.0)


def test_a_call_larger_than_the_bucket_waits_for_it_full_and_goes() -> None:
    limiter = RateLimiter(None, None, 60)  # holds five tokens

    async def work() -> None:
        await limiter.take(0, 4096)

    asyncio.run(asyncio.wait_for(work(), 5))
