"""Candidates as values: made of trees and made trees again, judged, compared."""

from __future__ import annotations

from nemoflows.coding.types import Baseline, Candidate, Change, Patch, Splice, TestReport
from nemoflows.coding.verdict import passes
from nemoflows.errors import BadInput
from nemoflows.llm.client import LLMClient
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from nemoflows.types import Tier

CLOSEST = 2
"""Failed candidates that a repair round corrects, the closest to passing."""


def candidate(base: Tree, tree: Tree, *, tier: Tier, why: str = "", number: int = 0) -> Candidate:
    """Return a changed tree as a candidate."""
    return Candidate(
        splices=[_splice(path, base, tree) for path in sorted(tree.paths_other_than(base))],
        tree=tree.hash,
        tier=tier,
        why=why,
        round=number,
        n_changed=trees.n_changed(trees.diff(base, tree)),
    )


def changed(base: Tree, candidate: Candidate) -> Tree:
    """Return the tree of a candidate.

    Raises:
        BadInput: It was made for another snapshot.
    """
    texts = {}
    for each in candidate.splices:
        text = base.text(each.path) or ""
        texts[each.path] = text[: each.start] + each.text + text[each.end :]
    tree = base.changed(texts)
    if tree.hash != candidate.tree:
        raise BadInput("A candidate does not fit the snapshot: it was made for another one.")
    return tree


def _splice(path: str, before: Tree, after: Tree) -> Splice:
    old, new = before.text(path) or "", after.text(path) or ""
    start = _n_alike(old, new)
    tail = _n_alike(old[start:][::-1], new[start:][::-1])
    return Splice(path=path, start=start, end=len(old) - tail, text=new[start : len(new) - tail])


def _n_alike(one: str, two: str) -> int:
    """Return how many characters two texts have in common before they differ."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(two)))


def solved(change: Change) -> bool:
    """Return whether a candidate passes."""
    return winner(change) is not None


def winner(change: Change) -> Candidate | None:
    """Return the candidate that passes with the smallest diff; of equals, the first."""
    passing = [each for each in change.candidates if _passes(each, change.baseline)]
    return min(passing, key=lambda each: each.n_changed, default=None)


def closest(change: Change) -> list[Candidate]:
    """Return the failed candidates that come closest to passing, at most `CLOSEST`.

    Of equals the latest: what was corrected already is not corrected again.
    """

    def distance(each: Candidate) -> tuple[bool, int, int, int]:
        report = each.report
        if report is None or report.ending != "finished":
            return True, 0, -each.round, each.n_changed
        return False, len({r.test for r in report.failing}), -each.round, each.n_changed

    failed = [e for e in change.candidates if e.report and not _passes(e, change.baseline)]
    return sorted(failed, key=distance)[:CLOSEST]


def _passes(candidate: Candidate, baseline: Baseline) -> bool:
    return candidate.report is not None and passes(candidate.report, baseline)


def with_bill(change: Change, patch: Patch, llm: LLMClient) -> Change:
    """Return the change with a patch that says what all calls so far cost, each once."""
    prices = [call.usd for call in llm.calls(change.calls)]
    known = [usd for usd in prices if usd is not None]
    update = {
        "calls": change.calls,
        "budget_note": change.budget_note,
        "usd": round(sum(known), 8) if len(known) == len(change.calls) else None,
    }
    return change.model_copy(update={"patch": patch.model_copy(update=update)})


def differing(first: TestReport, second: TestReport) -> list[str]:
    """Return the tests whose outcomes differ; the endings, where those do."""
    if first.ending != second.ending:
        return [f"the run itself: {first.ending}, then {second.ending}"]
    one = {r.test: r.outcome for r in first.not_passed}
    two = {r.test: r.outcome for r in second.not_passed}
    tests = sorted({*one, *two})
    return [test for test in tests if one.get(test, "passed") != two.get(test, "passed")]
