"""What a test run proves: the verdict over a candidate, hard to cheat.

A candidate's tree is judged with the baseline's tests, conftest files and settings, in a fresh
process over a clean copy that it can only read. The verdict asks that the run told its own end,
that the same tests were collected as before, that every canary failed, and that no function of the
test runner was replaced that the baseline leaves; otherwise it is `tampered`, `broken` or `died`,
never passed. A test that passed before and is skipped now is broken.

What a candidate could still forge: `nemoflows.sandbox.inside.suite` says it.
"""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.coding.protected import Protection
from nemoflows.coding.runs import Ran, RunOptions, TestRuns
from nemoflows.coding.types import Baseline, Ending, TestReport, TestResult
from nemoflows.sandbox.inside.suite import N_CANARIES
from nemoflows.sandbox.trees import Tree


async def judge(
    baseline: Baseline, base: Tree, candidate: Tree, runs: TestRuns, *, attempt: int = 0
) -> TestReport:
    """Return the verdict over a tree: a fresh run with the baseline's tests."""
    tree = with_baseline_tests(base, candidate, baseline)
    ran, replayed = await runs.run(baseline.task, tree, RunOptions(attempt=attempt))
    return report(ran, baseline=baseline.report, tree=candidate.hash, replayed=replayed)


def passes(report: TestReport, baseline: Baseline) -> bool:
    """Return whether the target tests pass and none that passed before is broken."""
    if report.ending != "finished":
        return False
    target = set(baseline.target)
    bad = {r.test for r in report.not_passed}
    before = {r.test for r in baseline.report.not_passed}
    return not bad & target and bad <= before


def with_baseline_tests(base: Tree, candidate: Tree, baseline: Baseline) -> Tree:
    """Return the candidate's tree with the baseline's tests and settings."""
    covers = Protection.of(baseline).covers
    own = {path: data for path, data in candidate.files.items() if not covers(path)}
    kept = {path: data for path, data in base.files.items() if covers(path)}
    return Tree({**own, **kept}, candidate.executable, base.links)


def baseline_report(ran: Ran, *, tree: str, replayed: bool) -> TestReport:
    """Return the report of the tree before any change; its own tests are what others must have.

    Modules that cannot be collected count as one test each, named by the module.
    """
    ending, detail = _ended(ran)
    if ending == "finished" and not ran.collected and not ran.broken:
        ending, detail = "broken", "no test was collected"
    results = [*ran.broken, *ran.results]
    collected = [*(r.test for r in ran.broken), *ran.collected]
    return _report(
        ran, tree, ending, detail, results,
        replayed=replayed, collected=collected, plugins=ran.plugins,
    )  # fmt: skip


def report(ran: Ran, *, baseline: TestReport, tree: str, replayed: bool) -> TestReport:
    """Return the verdict over a candidate's run."""
    ending, detail = _ended(ran)
    results = _by_baseline(ran, baseline)
    if ending == "finished":
        ending, detail = _same_tests(ran, baseline)
    return _report(ran, tree, ending, detail, results, replayed=replayed)


def _ended(ran: Ran) -> tuple[Ending, str]:
    if ran.why != "ended":
        limits: dict[str, Ending] = {"time": "time", "memory": "memory", "report": "report"}
        files = ": of their number, or of all they hold (`file_mib` of `limits`)"
        told = f"the run passed its limit of {ran.why}{files if ran.why == 'files' else ''}"
        return limits.get(ran.why, "died"), told
    if ran.internal:
        return "died", f"pytest, or a plugin of it, had an error: {ran.internal[-300:]}"
    if not ran.complete:
        last = ran.output.strip().rpartition("\n")[2]
        return "died", f"no end was told (exit code {ran.status}): {last[-300:]}"
    return _interfered(ran)


def _interfered(ran: Ran) -> tuple[Ending, str]:
    if any(outcome not in {"failed", "error"} for outcome in ran.canaries):
        return "tampered", "a test that must fail passed"
    modules = {test.partition("::")[0] for test in ran.collected}
    if len(ran.canaries) < N_CANARIES * len(modules):
        told = "tests that must fail did not run; -x, --maxfail and --co leave them out as well"
        return "tampered", told
    return "finished", ""


def _same_tests(ran: Ran, baseline: TestReport) -> tuple[Ending, str]:
    """Return whether tests and plugins are the baseline's; a broken module may bring its own."""
    if new := set(ran.plugins) - set(baseline.plugins):
        told = f"{len(new)} plugins, or parts of the runner, are not as in the baseline"
        return "tampered", f"{told}, such as {min(new)}"
    before = set(baseline.collected)
    broken = {r.test for r in baseline.not_passed if "::" not in r.test}
    now = {*ran.collected, *(r.test for r in ran.broken)}
    known = {test for test in now if test.partition("::")[0] not in broken}
    if lost := before - broken - known:
        newly_broken = [r for r in ran.broken if r.test not in broken]
        if newly_broken:
            return "broken", newly_broken[0].text[-300:]
        return "tampered", f"{len(lost)} tests were not collected, such as {min(lost)}"
    if more := known - before:
        return "tampered", f"{len(more)} tests are not the baseline's, such as {min(more)}"
    run = {r.test for r in ran.results}
    if missing := known - run - {r.test for r in ran.broken}:
        return "tampered", f"{len(missing)} tests did not run, such as {min(missing)}"
    return "finished", ""


def _by_baseline(ran: Ran, baseline: TestReport) -> list[TestResult]:
    """Return one result per test of the baseline; a module's is the worst of its tests'."""
    broken_before = {r.test for r in baseline.not_passed if "::" not in r.test}
    results = [r for r in ran.results if r.test.partition("::")[0] not in broken_before]
    for module in sorted(broken_before):
        own = [r for r in ran.results if r.test.partition("::")[0] == module]
        own += [r for r in ran.broken if r.test == module]
        worst = next((r for r in own if r.outcome in {"failed", "error"}), None)
        passed = TestResult(test=module, outcome="passed" if own else "error")
        results.append(worst.model_copy(update={"test": module}) if worst else passed)
    return results


def _report(
    ran: Ran, tree: str, ending: Ending, detail: str, results: Sequence[TestResult],
    *, replayed: bool, collected: Sequence[str] = (), plugins: Sequence[str] = (),
) -> TestReport:  # fmt: skip
    return TestReport(
        key=ran.key,
        tree=tree,
        ending=ending,
        detail=detail,
        n_passed=sum(r.outcome == "passed" for r in results),
        not_passed=[r for r in results if r.outcome != "passed"],
        collected=list(collected),
        plugins=list(plugins),
        level=ran.level,
        seconds=ran.seconds,
        replayed=replayed,
    )
