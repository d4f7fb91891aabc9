"""What to do next where a change is not verified."""

from __future__ import annotations

import json
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
            more = (
                _ASKED
                if patch.calls or patch.budget_note
                else _SEARCHED.format(change.n_search_runs)
            )
            return [*_fewer_targets(change.baseline), more]


def _fewer_targets(baseline: Baseline) -> list[str]:
    n_failing = len(baseline.target)
    if baseline.task.target_tests or n_failing < 2:
        return []
    example = shlex.quote(json.dumps(baseline.target[:1], ensure_ascii=False))
    told = f"All {n_failing} failing tests had to pass. Where some fail for reasons of their own, "
    return [f"{told}name those of the issue, such as --target_tests {example}"]
