"""Works at once: how many are begun, in which order they come, what one that fails ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoflows.engines.fake import FakeEngine
from nemoflows.llm.call import InFlightLimiter
from nemoflows.llm.concurrency import together
from nemoflows.llm.results import CallSpec, Success
from tests.batches import BatchServer, ask_all, asks, batch_client, values
from tests.support import make_llm, request


class Works:
    """Works that count how many of them are under way; some wait a turn, one may fail."""

    def __init__(self, n: int, *, failing: int = -1) -> None:
        self.n, self.failing = n, failing
        self.begun: list[int] = []
        self.n_now = self.most_at_once = self.n_cut = 0

    def each(self) -> Iterator[Coroutine[Any, Any, int]]:
        return (self.one(number) for number in range(self.n))

    async def one(self, number: int) -> int:
        self.begun.append(number)
        self.n_now += 1
        self.most_at_once = max(self.most_at_once, self.n_now)
        try:
            for _ in range(number % 3):
                await asyncio.sleep(0)
            if number == self.failing:
                raise ZeroDivisionError
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.n_cut += 1
            raise
        finally:
            self.n_now -= 1
        return number


@pytest.mark.parametrize(("n", "most"), [(0, 4), (3, 4), (50, 4), (50, None), (0, None)])
def test_results_come_in_order_from_so_many_at_once(n: int, most: int | None) -> None:
    works = Works(n)
    assert asyncio.run(together(works.each(), most=most)) == list(range(n))
    assert works.most_at_once == min(n, most or n)


@pytest.mark.parametrize("most", [4, None])
def test_one_that_fails_ends_the_others_and_begins_none(
    most: int | None, recwarn: pytest.WarningsRecorder
) -> None:
    works = Works(50, failing=7)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(together(works.each(), most=most))
    assert works.n_now == 0
    assert works.n_cut > 0
    assert len(works.begun) <= (20 if most else 50)
    assert not recwarn.list, "no work is left that nobody awaits"


def test_a_batch_begins_few_more_calls_than_may_be_in_flight(tmp_path: Path) -> None:
    n_tasks: list[int] = []

    def count(_: object) -> str:
        n_tasks.append(len(asyncio.all_tasks()))
        return "fine"

    llm = make_llm(FakeEngine(answer=count), tmp_path / "j")
    llm.in_flight = InFlightLimiter(2)
    specs = [CallSpec(request(str(n)), lambda reply, _: reply.text) for n in range(200)]
    found = asyncio.run(llm.batch(specs))
    assert all(isinstance(each, Success) for each in found)
    assert max(n_tasks) <= 2 * 8 + 2


def test_what_is_gathered_is_begun_at_once(tmp_path: Path) -> None:
    with BatchServer() as claude:
        llm = batch_client(claude.base, str(tmp_path / "j"))
        llm.in_flight = InFlightLimiter(1)
        found = asyncio.run(ask_all(llm, asks(9)))
        assert values(found) == [f"re question {n}" for n in range(9)]
        assert len(claude.batches) == 1
