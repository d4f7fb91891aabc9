"""The change flow as a cell of the kill matrix: its provider's script, its test runs counted."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from nemoflows.coding.types import Effort
from tests.coding import FILE, ISSUE, LENDING, LINE, RIGHT
from tests.journals import content
from tests.loopback import data_parts

EFFORT = Effort(candidates=4, repairs=2)
"""So few that every request is another: alike requests are alike to the provider too."""
WORDS = ["--repo", str(LENDING), "--issue", ISSUE, "--effort", str(EFFORT)]
_FIRST_ROUND, _ROUND = 1000, re.compile(r"^\d+\| (    return (\d+))$", re.MULTILINE)
Runs = dict[str, str]


def script(purpose: str, body: dict[str, Any]) -> str:
    """Answer wrongly, each request in another way, until a correction is corrected."""
    if purpose not in {"propose", "repair"}:
        return ""
    shown = "\n".join(text for kind, _, text in data_parts(body) if kind == "file")
    number = int(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6], 16)
    before = _ROUND.search(shown)
    if before is None:
        search, replace = LINE, f"    return {7 + number % (_FIRST_ROUND - 8)}"
    elif int(before[2]) < _FIRST_ROUND:
        search, replace = before[1], f"    return {_FIRST_ROUND + number}"
    else:
        search, replace = before[1], RIGHT.replace
    return json.dumps({"why": "x", "edits": [{"path": FILE, "search": search, "replace": replace}]})


def recorded_runs(root: str) -> Runs:
    """Return a journal's recorded test runs by name, each with what changes when it is rewritten.

    That is the content, which tells how long the run took.
    """
    return {name: hashlib.sha256(data).hexdigest() for name, data in content(root, "tests").items()}


def n_repeated(before: Runs, after: Runs) -> int:
    """Return how many recorded test runs were run again."""
    return sum(after.get(name) != place for name, place in before.items())
