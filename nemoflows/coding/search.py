"""Repair without a model: mutations of suspicious lines, tried one by one until the tests pass.

It finds slips, not designs: an operator, a constant, a name, a missing or a surplus condition. The
first mutation, in the order of `mutate`, that passes the verdict is the result, however many run at
once, so that the same inputs give the same patch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nemoflows.changes import Baseline, CodingTask, TestReport
from nemoflows.coding import mutate, verdict
from nemoflows.coding.ran import Ran, Wish
from nemoflows.coding.runs import TestRuns
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
        at_once: Mutations that are tried beside each other.
    """
    hurried = _hurried(baseline)
    wish = _wish(baseline)
    trees = (tree for tree, _ in mutate.candidates(base, baseline.suspects))
    n_runs = 0
    pending: list[tuple[Tree, asyncio.Task[tuple[Ran, bool]]]] = []

    def start(some: Iterator[Tree]) -> None:
        nonlocal n_runs
        room = min(at_once - len(pending), max_runs - n_runs)
        for tree in islice(some, max(0, room)):
            pending.append((tree, asyncio.create_task(runs.run(hurried, tree, wish))))
            n_runs += 1

    try:
        start(trees)
        while pending:
            tree, running = pending.pop(0)
            ran, _ = await running
            if _passes(ran):
                report = await judge(baseline, base, tree, runs)
                n_runs += 1
                if passes(report, baseline):
                    return Found(tree, report, n_runs)
            start(trees)
    finally:
        for _, running in pending:
            running.cancel()
        await asyncio.gather(*(running for _, running in pending), return_exceptions=True)
    return Found(None, None, n_runs)


async def judge(
    baseline: Baseline, base: Tree, candidate: Tree, runs: TestRuns, *, attempt: int = 0
) -> TestReport:
    """Return the verdict over a tree: a fresh run with the baseline's tests."""
    task = baseline.task
    tree = verdict.pristine(base, candidate, task.test_edits)
    ran, replayed = await runs.run(task, tree, Wish(attempt=attempt))
    return verdict.report(
        ran, baseline=baseline.report, tree=candidate.hash, level=await runs.level(task),
        replayed=replayed,
    )  # fmt: skip


def passes(report: TestReport, baseline: Baseline) -> bool:
    """Return whether the target tests pass and none that passed before is broken."""
    if report.ending != "finished":
        return False
    bad = {r.test for r in report.not_passed if r.outcome in {"failed", "error"}}
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
