"""Repair without a model: mutations of suspicious lines, tried one by one until the tests pass.

It finds slips, not designs: an operator, a constant, a name, a missing or a surplus condition. The
first mutation, in the order of `mutate`, that passes the verdict is the result, however many run at
once, so that the same inputs give the same patch.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nemoflows.coding import verdict
from nemoflows.coding.mutation import mutate
from nemoflows.coding.test_runs import Ran, TestRuns, Wish
from nemoflows.coding.types import Baseline, CodingTask, TestReport
from nemoflows.sandbox.trees import Tree

MAX_RUNS = 300
"""Test runs that a search takes unless the user says otherwise."""


_PATIENCE = 10.0
"""A mutated test may take ten times as long as the slowest that passed, and a second in any case:
most that take longer never end."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    tree: Tree | None
    """The repaired tree; None where no mutation passed within the runs."""
    report: TestReport | None
    n_runs: int
    """Test runs that were taken, the verdict's own included."""


async def search(
    baseline: Baseline, base: Tree, runs: TestRuns, *, max_runs: int = MAX_RUNS, at_once: int = 1
) -> Found:
    """Return the first mutation that passes the verdict.

    Args:
        max_runs: Test runs in the order of the mutations, verdicts included. What was begun beside
            the one that passes is not counted, so that any number at once gives the same count.
        at_once: Mutations that are tried beside each other.
    """
    trees = (tree for tree, _ in mutate.candidates(base, baseline.suspects))
    tries = _Tries(baseline, trees, runs, at_once)
    n_runs = 0
    try:
        while n_runs < max_runs and (tried := await tries.next(max_runs - n_runs)):
            tree, ran = tried
            n_runs += 1
            if _passes(ran) and n_runs < max_runs:
                report = await judge(baseline, base, tree, runs)
                n_runs += 1
                if passes(report, baseline):
                    return Found(tree, report, n_runs)
    finally:
        await tries.aclose()
    return Found(None, None, n_runs)


class _Tries:
    """Mutations under way: begun and given out in their order, whichever ends first."""

    def __init__(
        self, baseline: Baseline, trees: Iterator[Tree], runs: TestRuns, at_once: int
    ) -> None:
        self._task, self._wish = _hurried(baseline), _wish(baseline)
        self._trees, self._runs, self._at_once = trees, runs, at_once
        self._begun: deque[tuple[Tree, asyncio.Task[tuple[Ran, bool]]]] = deque()

    async def next(self, most: int) -> tuple[Tree, Ran] | None:
        """Return the next mutation with its run; None after the last one.

        Args:
            most: Mutations that may still be given out, this one included.
        """
        self._begin(most)
        if not self._begun:
            return None
        tree, first = self._begun[0]
        while not first.done():
            await asyncio.wait(self._running(), return_when=asyncio.FIRST_COMPLETED)
            self._begin(most)
        self._begun.popleft()
        return tree, first.result()[0]

    def _begin(self, most: int) -> None:
        room = min(self._at_once - len(self._running()), most - len(self._begun))
        for tree in islice(self._trees, max(0, room)):
            work = asyncio.create_task(self._runs.run(self._task, tree, self._wish))
            self._begun.append((tree, work))

    def _running(self) -> list[asyncio.Task[tuple[Ran, bool]]]:
        return [work for _, work in self._begun if not work.done()]

    async def aclose(self) -> None:
        """End what still runs."""
        left = self._running()
        for work in left:
            work.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def judge(
    baseline: Baseline, base: Tree, candidate: Tree, runs: TestRuns, *, attempt: int = 0
) -> TestReport:
    """Return the verdict over a tree: a fresh run with the baseline's tests."""
    task = baseline.task
    tree = verdict.pristine(base, candidate, baseline)
    ran, replayed = await runs.run(task, tree, Wish(attempt=attempt))
    return verdict.report(
        ran, baseline=baseline.report, tree=candidate.hash, level=ran.level,
        replayed=replayed,
    )  # fmt: skip


def passes(report: TestReport, baseline: Baseline) -> bool:
    """Return whether the target tests pass and none that passed before is broken."""
    if report.ending != "finished":
        return False
    bad = {r.test for r in report.failing}
    skipped = {r.test for r in report.not_passed if r.outcome == "skipped"}
    before = {r.test for r in baseline.report.not_passed}
    return (
        not (bad & set(baseline.target)) and not (skipped & set(baseline.target)) and bad <= before
    )


def _passes(ran: Ran) -> bool:
    return ran.complete and ran.status == 0 and bool(ran.results)


def _wish(baseline: Baseline) -> Wish:
    """Return the quickest run that can refuse a mutation: failing tests first, then the others."""
    broken = any("::" not in test for test in baseline.report.collected)
    bad = {r.test for r in baseline.report.not_passed} - set(baseline.target)
    only = [] if broken else [t for t in baseline.report.collected if t not in bad]
    return Wish(first=baseline.target, only=only, stop=True, canaries=False)


def _hurried(baseline: Baseline) -> CodingTask:
    """Return the task with less patience."""
    limits = baseline.task.limits
    slowest_s = baseline.slowest_passed_s
    seconds = min(limits.test_seconds, math.ceil(max(1.0, _PATIENCE * slowest_s)))
    hurried = limits.model_copy(update={"test_seconds": seconds})
    return baseline.task.model_copy(update={"limits": hurried})
