"""Choose the winner, run it again, have it looked at, and write it up as a patch."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.coding import context, edits, prompts, replies
from nemoflows.coding.mutation.search import judge, passes
from nemoflows.coding.snapshots import opened
from nemoflows.coding.test_runs import TestRuns
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Patch, Review, TestReport, Tier
from nemoflows.errors import BadInput
from nemoflows.llm.bound import Desk
from nemoflows.llm.client import Door
from nemoflows.llm.results import OVER, Failed
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree


def winner(baseline: Baseline, tested: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate that passes with the smallest diff; of equals, the first."""
    passing = [e for e in tested if e.report is not None and passes(e.report, baseline)]
    return min(passing, key=lambda each: each.n_changed, default=None)


async def select(
    baseline: Baseline,
    tested: Sequence[Candidate],
    *,
    runs: TestRuns,
    door: Door,
    calls: Sequence[str] = (),
    stopped: str = "",
) -> Patch:
    """Return the patch of the smallest change that passes, run once more.

    Args:
        tested: Every candidate of every round, with its report.
        calls: Keys of all calls of the flow, those of candidates included or not.
        stopped: Why the budget ended the asking, if it did.
    """
    keys = list(dict.fromkeys([*calls, *(key for each in tested for key in each.calls)]))
    task = baseline.task
    empty = Patch(
        issue=task.issue, status="no candidate passed", stopped=stopped, calls=keys,
        usd=_usd(door, keys),
    )  # fmt: skip
    if not baseline.target:
        return empty.model_copy(update={"status": "nothing to fix"})
    best = winner(baseline, tested)
    if best is None or best.report is None:
        return empty
    base = opened(task.repository)
    tree = changed(base, best)
    again = await judge(baseline, base, tree, runs, attempt=1)
    flaky = differing(best.report, again)
    update = {
        "status": "flaky" if flaky else "verified",
        "diff": trees.diff(base, tree),
        "candidate": best,
        "flaky": flaky,
    }
    return empty.model_copy(update=update)


def differing(first: TestReport, second: TestReport) -> list[str]:
    """Return the tests whose outcomes differ; the endings, where those do."""
    if first.ending != second.ending:
        return [f"the run itself: {first.ending}, then {second.ending}"]
    one = {r.test: r.outcome for r in first.not_passed}
    two = {r.test: r.outcome for r in second.not_passed}
    tests = sorted({*one, *two})
    return [test for test in tests if one.get(test, "passed") != two.get(test, "passed")]


async def review(baseline: Baseline, plan: ChangePlan, patch: Patch, *, desk: Desk) -> Patch:
    """Return the patch with a second look at it; it advises and changes nothing.

    A review that cannot be used leaves the patch as it is: the tests have decided already.
    """
    if not patch.diff or desk.model.endpoint == "embedded":
        return patch
    shown = context.parts(baseline, opened(baseline.task.repository), plan)
    request = prompts.review(shown, patch.diff, model=desk.model, salt=desk.salt)
    result = await desk.ask(request, lambda reply, _: replies.read_review(reply))
    keys = list(dict.fromkeys([*patch.calls, *result.calls]))
    stopped = patch.stopped
    if isinstance(result, Failed) and result.reason == OVER:
        told, stopped = Review(), stopped or result.detail
    elif isinstance(result, Failed):
        told = Review(comments=[f"The review failed: {result.reason}."], calls=result.calls)
    else:
        told = result.value.model_copy(update={"calls": result.calls})
    update = {"review": told, "calls": keys, "usd": _usd(desk.door, keys), "stopped": stopped}
    return patch.model_copy(update=update)


def _usd(door: Door, keys: Sequence[str]) -> float | None:
    """Return what calls cost, each once, whoever paid; None where nobody knows."""
    calls = door.calls(keys)
    prices = [call.usd for call in calls if call.usd is not None]
    return round(sum(prices), 8) if len(prices) == len(keys) else None


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
