"""What a model is shown of a repository: the issue, what failed, and the files that matter."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.calls import Part
from nemoflows.coding.lines import numbered
from nemoflows.coding.protected import is_test, runs_tests
from nemoflows.coding.types import Baseline, Change, ChangePlan, TestReport
from nemoflows.sandbox.trees import Tree

MAX_FILES = 6
MAX_FILE_CHARACTERS = 16_000
"""Of a file that is shown whole; of a longer one the surroundings of its suspicious lines."""
AROUND_LINES = 40
MAX_REPORT_CHARACTERS = 8_000
_CUT = "… lines left out …"


def parts(change: Change, tree: Tree) -> list[Part]:
    """Return what every request of a change begins with, the same for all candidates."""
    baseline, plan = change.baseline, change.plan
    shown = [Part(kind="issue", text=baseline.task.issue)]
    if plan.summary:
        steps = "\n".join(f"- {step}" for step in plan.steps)
        shown.append(Part(kind="plan", text=f"{plan.summary}\n{steps}".strip()))
    shown += [file_part(path, tree, baseline) for path in paths(baseline, tree, plan)]
    return [*shown, report_part(baseline.report, baseline.target)]


def paths(baseline: Baseline, tree: Tree, plan: ChangePlan) -> list[str]:
    """Return the files to show: the plan's first, then the most suspicious."""
    suspicious = [s.path for s in baseline.suspects]
    found = [path for path in dict.fromkeys([*plan.files, *suspicious]) if tree.text(path)]
    if not found:
        found = [p for p in sorted(tree.files) if p.endswith(".py") and not is_test(p)]
    return [path for path in found if not runs_tests(path)][:MAX_FILES]


def file_part(path: str, tree: Tree, baseline: Baseline) -> Part:
    """Return a file as data, its lines numbered, of a long one those around suspicious ones."""
    rows = (tree.text(path) or "").split("\n")
    return Part(kind="file", id=path, text=numbered(rows, _kept(path, tree, baseline), _CUT))


def shown_lines(tree: Tree, baseline: Baseline, plan: ChangePlan) -> dict[str, set[int]]:
    """Return the numbers of the lines that are shown, by file."""
    return {
        path: {n + 1 for n in _kept(path, tree, baseline)} for path in paths(baseline, tree, plan)
    }


def report_part(report: TestReport, target: Sequence[str]) -> Part:
    """Return what the tests said, the wanted ones first."""
    wanted = set(target)
    failing = report.failing
    failing.sort(key=lambda r: r.test not in wanted)
    texts = [f"{r.outcome} {r.test}\n{r.text}" for r in failing]
    room = MAX_REPORT_CHARACTERS // max(1, min(len(texts), 4))
    told = [str(report), *(text[:room] for text in texts)]
    return Part(kind="report", text="\n\n".join(told)[:MAX_REPORT_CHARACTERS])


def _kept(path: str, tree: Tree, baseline: Baseline) -> set[int]:
    """Return which rows of a file are shown, counted from 0."""
    text = tree.text(path) or ""
    rows = text.split("\n")
    if len(text) <= MAX_FILE_CHARACTERS:
        return set(range(len(rows)))
    kept: set[int] = set()
    for line in [s.line for s in baseline.suspects if s.path == path] or [1]:
        near = set(range(max(0, line - AROUND_LINES), min(len(rows), line + AROUND_LINES)))
        if sum(len(rows[n]) + 1 for n in kept | near) > MAX_FILE_CHARACTERS and kept:
            break
        kept |= near
    return kept
