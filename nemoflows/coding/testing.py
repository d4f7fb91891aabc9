"""The steps of the change flow that run tests; they ask no model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nemoflows import search as search_module
from nemoflows.coding import surroundings, verdict
from nemoflows.coding.candidates import candidate, changed, differing, winner, with_bill
from nemoflows.coding.mutation import faults
from nemoflows.coding.mutation.search import MAX_RUNS, search
from nemoflows.coding.protected import is_test
from nemoflows.coding.runs import Ran, RunOptions, TestRuns
from nemoflows.coding.snapshots import opened, with_tree
from nemoflows.coding.types import Baseline, Change, CodingTask, Patch, Suspect, TestReport
from nemoflows.errors import BadInput
from nemoflows.llm.client import LLMClient
from nemoflows.llm.concurrency import together
from nemoflows.sandbox import trees
from nemoflows.sandbox.runs import no_room
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


MAX_SERVED = 6
"""Runs in which the tests ask for more files: an import asks for one at a time."""


async def examine(task: CodingTask, *, runs: TestRuns, index_root: str) -> Baseline:
    """Run the tests before any change, and find out where the fault may be.

    What the copy lacks and a failing test asks for is taken into it. A test that fails by the
    surroundings alone is set apart, with the reason.

    Raises:
        BadInput: The issue is empty or too long, or the tests cannot be run, or judge nothing.
    """
    if not task.issue.strip() or len(task.issue) > MAX_ISSUE_CHARACTERS:
        raise BadInput(
            f"The issue has {len(task.issue):,} characters; it needs 1 to "
            f"{MAX_ISSUE_CHARACTERS:,}. Nothing was run."
        )
    own, n_run = opened(task.repository), runs.n_run
    try:
        baseline, tree = await _examined(task, own, runs)
    except BadInput:
        if runs.n_run > n_run:
            raise
        # what stood in the way may be mended since that run was recorded
        baseline, tree = await _examined(task, own, runs, again=True)
    # What git ignores is for tests alone: no model is shown it.
    passages = await asyncio.to_thread(_search, task.issue, own, index_root)
    known = {(s.path, s.line) for s in baseline.suspects}
    more = [s for s in _of_passages(passages, tree) if (s.path, s.line) not in known]
    return baseline.model_copy(update={"suspects": [*baseline.suspects, *more]})


async def _examined(
    task: CodingTask, tree: Tree, runs: TestRuns, *, again: bool = False
) -> tuple[Baseline, Tree]:
    """Return the baseline over the tree with what the tests asked for in vain."""
    for number in range(1, MAX_SERVED + 1):
        ran, replayed = await runs.run(task, tree, RunOptions(lines=True), again=again)
        found = await asyncio.to_thread(surroundings.lacking, ran, tree, task.repository.origin)
        if not found or number == MAX_SERVED:
            break
        tree = replace(tree, files={**tree.files, **found})
        task = task.model_copy(update={"repository": with_tree(task.repository, tree)})
    return await _baseline(task, tree, runs, ran, replayed=replayed), tree


async def baseline_of(task: CodingTask, tree: Tree, runs: TestRuns) -> Baseline:
    """Run the tests over the unchanged tree and rank its lines by suspicion.

    Raises:
        BadInput: The tests cannot be run, a target test is not among them, or none of them fails.
    """
    ran, replayed = await runs.run(task, tree, RunOptions(lines=True))
    return await _baseline(task, tree, runs, ran, replayed=replayed)


async def _baseline(
    task: CodingTask, tree: Tree, runs: TestRuns, ran: Ran, *, replayed: bool
) -> Baseline:
    report = verdict.baseline_report(ran, tree=tree.hash, replayed=replayed)
    _refuse_unfinished(task, report, ran.output.strip()[-600:])
    outside = await runs.run_original(task, [r.test for r in report.failing])
    apart = surroundings.apart(task, report, tree, outside)
    target = _target(task, report, apart, surroundings.failing_elsewhere(apart, outside))
    slowest_s = max((r.seconds for r in ran.results if r.outcome == "passed"), default=0.0)
    return Baseline(
        task=task,
        report=report,
        target=target,
        set_apart=apart,
        suspects=faults.suspects(ran, tree=tree, target=target),
        slowest_passed_s=slowest_s,
    )


def _refuse_unfinished(task: CodingTask, report: TestReport, output: str) -> None:
    if report.ending == "broken":
        raise BadInput(
            f"With {task.test_command!r} no test was collected, and a change is judged by tests: "
            "write one that fails because of the issue, or name where they are, such as with "
            f"'python -m pytest DIR'. Last output: {output}"
        )
    if report.ending != "finished":
        raise BadInput(
            f"The tests of the unchanged repository do not run to their end with test_command="
            f"{task.test_command!r}, in {task.limits.seconds:g} s at the level {report.level}: "
            f"{report.ending}, {report.detail}. They can write below $TMPDIR and add files to the "
            "working folder where the caller is root. Another `cache_salt` in the policy runs them "
            f"again. Last output: {output}"
        )


def _target(
    task: CodingTask, report: TestReport, apart: Mapping[str, str], elsewhere: Sequence[str]
) -> list[str]:
    """Return the tests that must pass.

    Args:
        apart: Failing tests that are set apart, each with the reason.
        elsewhere: Tests of theirs that fail outside the sandbox as well.
    """
    failing = [r.test for r in report.failing if r.test not in apart]
    if elsewhere or (apart and not failing):
        raise _unjudged(task, apart, elsewhere)
    if not task.target_tests:
        return failing
    named = {name: _matching(name, report.collected) for name in task.target_tests}
    if missing := [name for name, found in named.items() if not found]:
        raise BadInput(
            f"target_tests: {', '.join(missing[:5])} are not among the {len(report.collected)} "
            f"tests that {task.test_command!r} collects, such as "
            f"{', '.join(sorted(report.collected)[:3])}."
        )
    target = list(dict.fromkeys(test for found in named.values() for test in found))
    if lost := {test: apart[test] for test in target if test in apart}:
        raise _unjudged(task, lost, [])
    if not set(target) & set(failing):
        fail = f"; those that fail: {', '.join(failing[:3])}" if failing else ""
        raise BadInput(
            f"target_tests: none of the {len(target)} tests fails before the change, so that any "
            f"change would do{fail}. Name one that fails because of the issue."
        )
    return target


def _unjudged(task: CodingTask, apart: Mapping[str, str], elsewhere: Sequence[str]) -> BadInput:
    hidden = f" Of theirs, {', '.join(elsewhere[:3])} fails there too." if elsewhere else ""
    return BadInput(
        f"A change cannot be judged: {len(apart)} tests of {task.test_command!r} fail by what the "
        f"sandbox lacks or forbids, not by the issue.{hidden} {surroundings.told(apart)}. "
        "--target_tests names tests that fail because of the issue; --deselect in --test_command "
        "leaves one out. Tests were run in the sandbox alone, and no call was made."
    )


def _matching(name: str, collected: Sequence[str]) -> list[str]:
    """Return a test by its id, or all below a module or class."""
    below = (f"{name}::", f"{name}[")
    return [test for test in collected if test == name or test.startswith(below)]


def _search(issue: str, tree: Tree, index_root: str) -> list[Passage]:
    try:
        with tempfile.TemporaryDirectory(prefix="nemoflows-code-") as folder:
            tree.write(Path(folder))
            index = search_module.build_index(folder, index_root)
    except OSError as error:
        raise no_room(f"a copy of {len(tree.files):,} files", str(error)) from error
    return search_module.open_index(index).search(issue, K_PASSAGES)


def _of_passages(passages: Sequence[Passage], tree: Tree) -> Iterator[Suspect]:
    for rank, passage in enumerate(passages):
        text = tree.text(passage.document)
        if text is None or is_test(passage.document):
            continue
        first = text.count("\n", 0, passage.start) + 1
        score = round(FOUND_SCORE / (1 + rank), 4)
        why = f"number {rank + 1} of what the issue's words find"
        for n in range(text.count("\n", passage.start, passage.end) + 1):
            yield Suspect(path=passage.document, line=first + n, score=score, why=why)


async def search_repair(
    change: Change, *, runs: TestRuns, max_runs: int = MAX_RUNS, at_once: int = 1
) -> Change:
    """Repair by search, without a model; what comes back is tested.

    Args:
        max_runs: Test runs that it may take; 0 for none.
    """
    baseline = change.baseline
    if not baseline.target or max_runs < 1:
        return change
    base = opened(baseline.task.repository)
    found = await search(baseline, base, runs, max_runs=max_runs, at_once=at_once)
    tested = list(change.candidates)
    if found.tree is not None:
        made = candidate(base, found.tree, tier="builtin", why=f"found in {found.n_runs} test runs")
        tested.append(made.model_copy(update={"report": found.report}))
    n_runs = change.n_search_runs + found.n_runs
    return change.after(candidates=tested, n_search_runs=n_runs, search_note=found.note)


async def run_tests(change: Change, *, runs: TestRuns) -> Change:
    """Judge the candidates without a report, as many at once as there are cores."""
    new = [each for each in change.candidates if each.report is None]
    if not new:
        return change
    baseline = change.baseline
    base = opened(baseline.task.repository)
    judged = [verdict.judge(baseline, base, changed(base, each), runs) for each in new]
    reports = iter(await together(judged))
    tested = [
        each if each.report else each.model_copy(update={"report": next(reports)})
        for each in change.candidates
    ]
    return change.after(candidates=tested)


async def select(change: Change, *, runs: TestRuns, llm: LLMClient) -> Change:
    """Choose the smallest change that passes, run it once more, and write it as a patch."""
    baseline, best = change.baseline, winner(change)
    patch = Patch(issue=baseline.task.issue, status="no candidate passed")
    if not baseline.target:
        patch = patch.model_copy(update={"status": "nothing to fix"})
    elif best is not None and best.report is not None:
        base = opened(baseline.task.repository)
        tree = changed(base, best)
        again = await verdict.judge(baseline, base, tree, runs, attempt=1)
        flaky = differing(best.report, again)
        update = {"status": "flaky" if flaky else "verified", "flaky": flaky, "candidate": best}
        diff = trees.diff(base, tree, prefix=baseline.task.repository.prefix)
        patch = patch.model_copy(update=update | {"diff": diff})
    return with_bill(change, patch, llm)
