"""What to do next where a change is not verified, and what a reader must know of its tests."""

from __future__ import annotations

import json
import re
import shlex

from nemoflows.coding.types import Baseline, Change

_NOTHING = (
    "No test fails, and a change is judged by tests: write one that fails because of the issue, "
    "and run this again."
)
_FLAKY = (
    "The same change was run twice. Mend the tests whose outcome differs, or leave them out with "
    "--deselect in --test_command."
)
_ASKED = (
    "The report has what the tests said of each candidate. --effort asks for more, such as "
    "'{\"candidates\": 16}'."
)
_SEARCHED = (
    "No model was asked: a search of {} test runs looked for slips of an operator, constant, name "
    """or condition. --effort '{{"search_runs": 1000}}' allows it more; what is not a slip needs """
    """a model, such as --policy '{{"efficient": "ENDPOINT:MODEL"}}'."""
)
_NOT_SEARCHED = (
    "No model was asked, and the search for slips had nothing to try: {}. A model may help, such "
    """as --policy '{{"efficient": "ENDPOINT:MODEL"}}'."""
)


def next_steps(change: Change) -> list[str]:
    """Return what a person can do next, the likeliest help first; nothing where all is well."""
    patch = change.patch
    match patch.status:
        case "verified" | "open":
            return []
        case "nothing to fix":
            return [_NOTHING]
        case "flaky":
            return [_FLAKY]
        case "no candidate passed":
            return [*_fewer_targets(change.baseline), _more(change)]


def apart(change: Change) -> list[str]:
    """Return what judges nothing here: tests that were set apart, and files that are left out."""
    baseline = change.baseline
    tests = [f"set apart: {test}: {why}" for test, why in baseline.set_apart.items()]
    said = " ".join(r.text for r in baseline.report.failing)
    left_out = [
        entry
        for entry in baseline.task.repository.left_out
        if entry.partition(": ")[0] in said and not any(entry in test for test in tests)
    ]
    return [*tests, *(f"not in the copy, and a failing test names it: {e}" for e in left_out)]


def _more(change: Change) -> str:
    if change.patch.calls or change.patch.budget_note:
        return _ASKED
    if change.n_search_runs:
        return _SEARCHED.format(change.n_search_runs)
    return _NOT_SEARCHED.format(change.search_note or "--effort allowed it no test run")


def _fewer_targets(baseline: Baseline) -> list[str]:
    n_failing = len(baseline.target)
    if baseline.task.target_tests or n_failing < 2:
        return []
    likeliest = max(baseline.target, key=lambda test: _n_shared(test, baseline.task.issue))
    example = shlex.quote(json.dumps([likeliest], ensure_ascii=False))
    told = f"All {n_failing} failing tests had to pass. Where some fail for reasons of their own, "
    return [f"{told}name those of the issue, such as --target_tests {example}"]


def _n_shared(test: str, issue: str) -> int:
    """Return how many words a test's name has in common with the issue."""
    return len(_words(test) & _words(issue))


def _words(text: str) -> set[str]:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", text)
    return {part.lower() for part in parts} - {"test", "tests", "py", "the", "a", "is", "of"}
