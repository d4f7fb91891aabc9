"""Changed trees as candidates, and which of them came how far."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.changes import Baseline, Candidate, Tier
from nemoflows.coding import edits
from nemoflows.coding.search import passes
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree

CLOSEST = 2
"""Failed candidates that a repair round corrects, the closest to passing."""


def candidate(base: Tree, tree: Tree, *, tier: Tier, why: str = "", number: int = 0) -> Candidate:
    """Return a changed tree as a candidate."""
    return Candidate(
        edits=edits.between(base, tree),
        tree=tree.hash,
        tier=tier,
        why=why,
        round=number,
        n_changed=trees.n_changed(trees.diff(base, tree)),
    )


def changed(base: Tree, candidate: Candidate) -> Tree:
    """Return the tree of a candidate.

    Raises:
        BadInput: Its edits do not fit this repository.
    """
    tree = edits.again(base, candidate.edits)
    if tree is None or tree.hash != candidate.tree:
        raise BadInput("A candidate's edits do not fit the snapshot that it was made for.")
    return tree


def solved(baseline: Baseline, tested: Sequence[Candidate]) -> bool:
    """Return whether a candidate passes."""
    return any(each.report is not None and passes(each.report, baseline) for each in tested)


def closest(baseline: Baseline, tested: Sequence[Candidate]) -> list[Candidate]:
    """Return the failed candidates that come closest to passing, at most `CLOSEST`.

    Of equals the latest: what was corrected already is not corrected again.
    """

    def distance(each: Candidate) -> tuple[bool, int, int, int]:
        report = each.report
        if report is None or report.ending != "finished":
            return True, 0, -each.round, each.n_changed
        bad = {r.test for r in report.failing}
        return False, len(bad), -each.round, each.n_changed

    failed = [e for e in tested if e.report is not None and not passes(e.report, baseline)]
    return sorted(failed, key=distance)[:CLOSEST]
