"""The change flow as a cell of the kill matrix: its provider's script, its test runs counted."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tests.coding import FILE, ISSUE, LENDING, LINE, RIGHT
from tests.loopback import data_parts

CANDIDATES, REPAIRS = 4, 2
"""So few that every request is another: alike requests are alike to the provider too."""
WORDS = [
    "workflows/coding.py", "fix_issue", "--repo", str(LENDING), "--issue", ISSUE,
    "--candidates", str(CANDIDATES), "--repairs", str(REPAIRS),
]  # fmt: skip
_FIRST_ROUND, _ROUND = 1000, re.compile(r"^    return (\d+)$", re.MULTILINE)
Runs = dict[str, tuple[int, int]]


def script(purpose: str, body: dict[str, Any]) -> str:
    """Answer wrongly, each request in another way, until a correction is corrected."""
    if purpose not in {"propose", "repair"}:
        return ""
    shown = "\n".join(text for kind, _, text in data_parts(body) if kind == "file")
    number = int(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6], 16)
    before = _ROUND.search(shown)
    if before is None:
        search, replace = LINE, f"    return {7 + number % (_FIRST_ROUND - 8)}"
    elif int(before[1]) < _FIRST_ROUND:
        search, replace = before[0], f"    return {_FIRST_ROUND + number}"
    else:
        search, replace = before[0], RIGHT.replace
    return json.dumps({"why": "x", "edits": [{"path": FILE, "search": search, "replace": replace}]})


def recorded_runs(root: str) -> Runs:
    """Return the recorded test runs of a journal on disk; what is written anew is another file."""
    found = Path(root).glob("tests/*/*.json")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def n_repeated(before: Runs, after: Runs) -> int:
    """Return how many recorded test runs were run again."""
    return sum(after.get(name) != place for name, place in before.items())
