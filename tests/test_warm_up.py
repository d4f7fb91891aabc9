"""The warm-up of a prefix cache: one call of a shared prefix goes ahead of the others."""

from __future__ import annotations

import asyncio

import pytest

from nemoflows.engines.http import warm_up
from nemoflows.engines.http.warm_up import PrefixWarmUp


def test_the_first_call_of_a_prefix_leads_and_the_others_follow_together() -> None:
    warming, events = PrefixWarmUp(60), []

    async def one(n: int, prefix: str) -> None:
        async with warming.turn(prefix) as cached:
            events.append(f"start {n}")
            await asyncio.sleep(0.01)
            events.append(f"end {n}")
            cached()

    async def work() -> None:
        await asyncio.gather(*(one(n, "p") for n in range(4)), one(9, "other"), one(8, ""))

    asyncio.run(work())
    assert events.index("end 0") < min(events.index(f"start {n}") for n in (1, 2, 3))
    assert max(events.index(f"start {n}") for n in (1, 2, 3)) < events.index("end 1")
    assert {"start 9", "start 8"} <= set(events[:3])


def test_after_a_leader_that_failed_another_leads() -> None:
    warming, order = PrefixWarmUp(60), []

    async def one(n: int) -> None:
        async with warming.turn("p"):
            order.append(n)
            await asyncio.sleep(0)
            if n == 0:
                raise ValueError("no reply")

    async def work() -> None:
        done = await asyncio.gather(*(one(n) for n in range(3)), return_exceptions=True)
        assert [type(result) for result in done] == [ValueError, type(None), type(None)]

    asyncio.run(work())
    assert order == [0, 1, 2]


def test_a_leader_that_was_not_answered_is_followed_by_another() -> None:
    warming, events = PrefixWarmUp(60), []

    async def one(n: int) -> None:
        async with warming.turn("p") as cached:
            events.append(f"start {n}")
            await asyncio.sleep(0.005)
            events.append(f"end {n}")
            if n == 1:
                cached()

    async def work() -> None:
        await asyncio.gather(*(one(n) for n in range(5)))

    asyncio.run(work())
    assert events[:4] == ["start 0", "end 0", "start 1", "end 1"]
    assert events[4:7] == ["start 2", "start 3", "start 4"]


def test_a_leader_that_hangs_is_waited_for_only_so_long() -> None:
    warming, order = PrefixWarmUp(0.05), []

    async def one(n: int) -> None:
        async with warming.turn("p"):
            order.append(n)
            await asyncio.sleep(60 if n == 0 else 0)

    async def work() -> None:
        hanging = asyncio.ensure_future(one(0))
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(one(1), one(2)), 10)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    asyncio.run(work())
    assert order == [0, 1, 2]


def test_prefixes_that_are_no_longer_cached_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warming, now_s = PrefixWarmUp(60), [1000.0]
    monkeypatch.setattr(warm_up, "monotonic", lambda: now_s[0])

    async def one(prefix: str) -> None:
        async with warming.turn(prefix) as cached:
            cached()

    async def work() -> None:
        for n in range(50):
            await one(f"p{n}")
            now_s[0] += warm_up.PREFIX_LIFE_S / 2

    asyncio.run(work())
    assert len(warming._written_s) + len(warming._leading) <= 2
