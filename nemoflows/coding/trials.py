"""The steps of the change flow that run tests; they ask no model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nemoflows import search as search_module
from nemoflows.coding.candidates import candidate, changed
from nemoflows.coding.edits import is_test
from nemoflows.coding.examine import examine as examine_tree
from nemoflows.coding.mutation.search import MAX_RUNS, judge, search
from nemoflows.coding.snapshots import opened
from nemoflows.coding.test_runs import TestRuns
from nemoflows.coding.types import Baseline, Candidate, CodingTask, Proposals, Suspect, TestReport
from nemoflows.errors import BadInput
from nemoflows.llm.concurrency import together
from nemoflows.sandbox.trees import Tree
from nemoflows.types import Passage

MAX_ISSUE_CHARACTERS = 20_000
"""Of an issue: every request of a change begins with it."""
FOUND_SCORE = 0.3
"""Suspicion of the first line that the issue's words find, below all that tests ran.

Source: chosen by reading, not calibrated.
"""
K_PASSAGES = 8
"""Passages that the issue's words find and that count as suspicious."""


async def examine(task: CodingTask, *, runs: TestRuns, index_root: str) -> Baseline:
    """Run the tests before any change, and find out where the fault may be.

    Raises:
        BadInput: The issue is empty or too long, or the tests cannot be run.
    """
    if not task.issue.strip() or len(task.issue) > MAX_ISSUE_CHARACTERS:
        raise BadInput(
            f"The issue has {len(task.issue):,} characters; it needs 1 to "
            f"{MAX_ISSUE_CHARACTERS:,}. Nothing was run."
        )
    tree = opened(task.repository)
    baseline = await examine_tree(task, tree, runs)
    passages = await asyncio.to_thread(_search, task.issue, tree, index_root)
    known = {(s.path, s.line) for s in baseline.suspects}
    more = [s for s in _of_passages(passages, tree) if (s.path, s.line) not in known]
    return baseline.model_copy(update={"suspects": [*baseline.suspects, *more]})


def _search(issue: str, tree: Tree, index_root: str) -> list[Passage]:
    with tempfile.TemporaryDirectory(prefix="nemoflows-code-") as folder:
        tree.write(Path(folder))
        index = search_module.build_index(folder, index_root)
    return search_module.open_index(index).search(issue, K_PASSAGES)


def _of_passages(passages: Sequence[Passage], tree: Tree) -> list[Suspect]:
    found = []
    for rank, passage in enumerate(passages):
        text = tree.text(passage.document)
        if text is None or is_test(passage.document):
            continue
        first = text.count("\n", 0, passage.start) + 1
        score = round(FOUND_SCORE / (1 + rank), 4)
        why = f"number {rank + 1} of what the issue's words find"
        n_lines = text.count("\n", passage.start, passage.end) + 1
        found += [
            Suspect(path=passage.document, line=first + n, score=score, why=why)
            for n in range(n_lines)
        ]
    return found


async def run_tests(
    baseline: Baseline, candidates: Sequence[Candidate], *, runs: TestRuns
) -> list[Candidate]:
    """Judge candidates, as many at once as there are cores; one run per distinct tree."""
    if not candidates:
        return []
    base = opened(baseline.task.repository)
    judged = [_judged(baseline, base, each, runs) for each in candidates]
    reports = await together(judged)
    return [
        each.model_copy(update={"report": report})
        for each, report in zip(candidates, reports, strict=True)
    ]


async def _judged(
    baseline: Baseline, base: Tree, candidate: Candidate, runs: TestRuns
) -> TestReport:
    """Return a candidate's report; a search brings its own."""
    if candidate.report is not None:
        return candidate.report
    return await judge(baseline, base, changed(base, candidate), runs)


async def search_repair(
    baseline: Baseline, *, runs: TestRuns, max_runs: int = MAX_RUNS, at_once: int = 1
) -> Proposals:
    """Repair by search, without a model; what comes back is tested.

    Args:
        max_runs: Test runs that it may take; 0 for none.
    """
    if not baseline.target or max_runs < 1:
        return Proposals()
    base = opened(baseline.task.repository)
    found = await search(baseline, base, runs, max_runs=max_runs, at_once=at_once)
    if found.tree is None:
        return Proposals(n_runs=found.n_runs)
    made = candidate(base, found.tree, tier="embedded", why=f"found in {found.n_runs} test runs")
    tested = made.model_copy(update={"report": found.report})
    return Proposals(candidates=[tested], n_runs=found.n_runs)
