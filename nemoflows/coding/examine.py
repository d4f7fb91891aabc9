"""The tests before any change: what fails, what must pass, where the fault may be."""

from __future__ import annotations

from nemoflows.coding import verdict
from nemoflows.coding.mutation import faults
from nemoflows.coding.test_runs import TestRuns, Wish
from nemoflows.coding.types import Baseline, CodingTask, TestReport
from nemoflows.errors import BadInput
from nemoflows.sandbox.levels import Level
from nemoflows.sandbox.trees import Tree


async def examine(task: CodingTask, tree: Tree, runs: TestRuns) -> Baseline:
    """Run the tests over the unchanged tree and rank its lines by suspicion.

    Raises:
        BadInput: The tests cannot be run, a target test is not among them, or none of them fails.
    """
    ran, replayed = await runs.run(task, tree, Wish(lines=True))
    level = await runs.level(task)
    report = verdict.baseline_report(ran, tree=tree.hash, level=ran.level, replayed=replayed)
    _refuse_unfinished(task, report, level, ran.output.strip()[-600:])
    target = _target(task, report)
    suspects = faults.suspects(ran, tree=tree, target=target)
    slowest_s = max((r.seconds for r in ran.results if r.outcome == "passed"), default=0.0)
    return Baseline(
        task=task, report=report, target=target, suspects=suspects, slowest_passed_s=slowest_s
    )


def _refuse_unfinished(task: CodingTask, report: TestReport, level: Level, output: str) -> None:
    if report.ending == "broken":
        raise BadInput(
            f"With {task.test_command!r} no test was collected, and a change is judged by tests: "
            "write one that fails because of the issue, or name where they are, such as with "
            f"'python -m pytest DIR'. Last output: {output}"
        )
    if report.ending != "finished":
        raise BadInput(
            f"The tests of the unchanged repository do not run to their end with test_command="
            f"{task.test_command!r}, in {task.limits.seconds:g} s at the level {level}: "
            f"{report.ending}, {report.detail}. They can read the repository and write only below "
            f"$TMPDIR. Another `fresh` runs them again. Last output: {output}"
        )


def _target(task: CodingTask, report: TestReport) -> list[str]:
    failing = [r.test for r in report.failing]
    if not task.target_tests:
        return failing
    known = set(report.collected)
    wanted = [_matching(name, report.collected) for name in task.target_tests]
    if missing := [
        name for name, found in zip(task.target_tests, wanted, strict=True) if not found
    ]:
        raise BadInput(
            f"target_tests: {', '.join(missing[:5])} are not among the {len(known)} tests that "
            f"{task.test_command!r} collects, such as {', '.join(sorted(known)[:3])}."
        )
    named = list(dict.fromkeys(test for found in wanted for test in found))
    if not set(named) & set(failing):
        fail = f"; those that fail: {', '.join(failing[:3])}" if failing else ""
        raise BadInput(
            f"target_tests: none of the {len(named)} tests fails before the change, so that any "
            f"change would do{fail}. Name one that fails because of the issue."
        )
    return named


def _matching(name: str, collected: list[str]) -> list[str]:
    """Return a test by its id, or all below a module or class."""
    return [
        test for test in collected if test == name or test.startswith((f"{name}::", f"{name}["))
    ]
