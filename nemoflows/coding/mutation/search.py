"""Repair without a model: mutations of suspicious lines, tried one by one until the tests pass.

It finds slips, not designs: an operator, a constant, a name, a missing or a surplus condition. The
first mutation, in the order of `mutate`, that passes the verdict is the result, however many run at
once, so that the same inputs give the same patch.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from nemoflows.coding.mutation import mutate
from nemoflows.coding.runs import Ran, RunOptions, TestRuns
from nemoflows.coding.types import Baseline, CodingTask, TestReport
from nemoflows.coding.verdict import judge, passes
from nemoflows.progress import progress
from nemoflows.sandbox.trees import Tree

T = TypeVar("T")
MAX_RUNS = 300
"""Test runs that a search takes unless the user says otherwise."""
AHEAD = 4
"""Mutations that wait for their turn, per one that runs: one that never ends holds up few."""
_PATIENCE = 10.0
"""A mutated test may take ten times as long as the slowest that passed, and a second in any case:
most that take longer never end. It is CPU time, which a busy machine does not lengthen."""
_WAITS = 8.0
"""Times as long on the clock: a mutated test may also wait for ever."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    tree: Tree | None
    """The repaired tree; None where no mutation passed within the runs."""
    report: TestReport | None
    n_runs: int
    """Test runs that were taken, the verdict's own included."""
    note: str = ""
    """Why there was nothing to try; empty where there was something."""


async def search(
    baseline: Baseline, base: Tree, runs: TestRuns, *, max_runs: int = MAX_RUNS, at_once: int = 1
) -> Found:
    """Return the first mutation that passes the verdict.

    Args:
        max_runs: Test runs in the order of the mutations, verdicts included. What was begun beside
            the one that passes is not counted, so that any number at once gives the same count.
        at_once: Mutations that are tried beside each other, as far as the sandbox lets them.
    """
    mutated = islice(mutate.candidates(base, baseline.suspects), max_runs)
    task, options = _hurried(baseline), _quickest(baseline)

    async def tried(tree: Tree) -> tuple[Tree, Ran]:
        return tree, (await runs.run(task, tree, options))[0]

    n_runs = 0
    works = (tried(tree) for tree, _ in mutated)
    ordered = _in_order(works, 1 if at_once == 1 else AHEAD * at_once)
    with progress("search_repair") as tell:
        async with aclosing(ordered) as results:
            async for tree, ran in results:
                n_runs += 1
                tell(n_runs, max_runs)
                if _passes(ran) and n_runs < max_runs:
                    report = await judge(baseline, base, tree, runs)
                    n_runs += 1
                    if passes(report, baseline):
                        return Found(tree, report, n_runs)
                if n_runs >= max_runs:
                    break
    return Found(None, None, n_runs, "" if n_runs else _why_nothing(baseline, base))


def _why_nothing(baseline: Baseline, base: Tree) -> str:
    """Return why no line that the failing tests ran could be changed."""
    paths = list(dict.fromkeys(s.path for s in baseline.suspects))
    if not paths:
        return "the failing tests ran no line outside tests"
    sources = [path for path in paths if path.endswith(".py")]
    if not sources:
        return f"{', '.join(paths[:3])} are no Python"
    broken = [path for path in sources if mutate.shape(base.text(path)) is None]
    if broken:
        return f"{', '.join(broken[:3])} cannot be read as Python"
    return f"no line of {', '.join(sources[:3])} that they ran has a likely slip"


async def _in_order(works: Iterable[Coroutine[Any, Any, T]], n: int) -> AsyncGenerator[T, None]:
    """Yield results in the order of the works, of which `n` are under way; end what is left."""
    begun: deque[asyncio.Task[T]] = deque()
    try:
        for work in works:
            begun.append(asyncio.create_task(work))
            if len(begun) == n:
                yield await begun.popleft()
        while begun:
            yield await begun.popleft()
    finally:
        for left in begun:
            left.cancel()
        await asyncio.gather(*begun, return_exceptions=True)


def _passes(ran: Ran) -> bool:
    return ran.complete and ran.status == 0 and bool(ran.results)


def _quickest(baseline: Baseline) -> RunOptions:
    """Return the quickest run that can refuse a mutation: failing tests first, then the others."""
    broken = any("::" not in test for test in baseline.report.collected)
    bad = {r.test for r in baseline.report.not_passed} - set(baseline.target)
    only = [] if broken else [t for t in baseline.report.collected if t not in bad]
    return RunOptions(
        first=baseline.target,
        only=only,
        stop=True,
        canaries=False,
        cpu_seconds=_cpu_seconds(baseline),
    )


def _cpu_seconds(baseline: Baseline) -> float:
    slowest_s = baseline.slowest_passed_s
    return min(baseline.task.limits.test_seconds, math.ceil(max(1.0, _PATIENCE * slowest_s)))


def _hurried(baseline: Baseline) -> CodingTask:
    """Return the task with less patience for tests that wait, as far as a busy machine allows."""
    limits = baseline.task.limits
    seconds = min(limits.test_seconds, _WAITS * _cpu_seconds(baseline))
    hurried = limits.model_copy(update={"test_seconds": seconds})
    return baseline.task.model_copy(update={"limits": hurried})
