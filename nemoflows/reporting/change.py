"""The part of a report about a change: candidates against tests, the winner's diff."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.coding.types import Candidate, Change, Outcome
from nemoflows.money.ledger import Spent
from nemoflows.money.savings import is_frontier
from nemoflows.types import Policy

MAX_ROWS = 200
"""Tests shown in the matrix: those that must pass first, then those that some candidate failed."""


def superseded_proposals(
    candidates: Sequence[Candidate], calls: Sequence[Spent], policy: Policy
) -> set[str]:
    """Return the keys of the efficient tier's proposals, where the frontier proposed after them."""
    if all(each.tier != "frontier" for each in candidates):
        return set()
    keys = {key for each in candidates for key in each.calls}
    steps = {call.purpose for call in calls if call.key in keys}
    return {call.key for call in calls if call.purpose in steps and not is_frontier(call, policy)}


def test_rows(change: Change) -> list[tuple[str, list[Outcome | None]]]:
    """Return the tests that say most, each with what came of it before and under each candidate."""
    reports = [change.baseline.report, *(each.report for each in change.candidates)]
    return [
        (test, [report.outcome(test) if report else None for report in reports])
        for test in _tests(change)
    ]


def _tests(change: Change) -> list[str]:
    before = change.baseline.report
    reports = [each.report for each in change.candidates if each.report]
    failed = [result.test for report in [*reports, before] for result in report.not_passed]
    return list(dict.fromkeys([*change.baseline.target, *failed, *before.collected]))[:MAX_ROWS]
