"""Tests as a gate between two models, on recorded answers.

    python -m benchmarks.cascade RECORDS TASKS

RECORDS is a folder with records.jsonl {id, model, strategy, solution}: what models answered to
functions, once; TASKS one with tasks.jsonl {id, declaration, test, example_test}. The gate is the
visible example test of a function, the truth its full test; both run in the sandbox. Prints, as
JSON lines, what is solved by the weak model, by the strong one, and by the weak one with the strong
one only where the gate fails; the share that goes to the strong one; what the gate let through
wrongly. With 95 % intervals over functions.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.answers import Row, read
from benchmarks.repair import LIMITS
from benchmarks.statistics import interval
from nemoflows.coding import functions
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import CodingTask, Repository
from nemoflows.errors import BadInput

WEAK, STRONG = "text-davinci-003", "gpt-4"
STRATEGY = "simple"


async def passes(source: str, tests: str, runs: TestRuns) -> bool:
    """Return whether a function passes tests, in the sandbox; code that does not parse fails."""
    try:
        tree = functions.tree(source, tests)
        repository = Repository(uri="", name="function", tree=tree.hash, n_files=len(tree.files))
        report = await baseline_of(
            CodingTask(repository=repository, issue="Does it pass?", limits=LIMITS), tree, runs
        )
    except (BadInput, SyntaxError, ValueError):
        return False
    return not report.target


async def judged(task: Row, solution: str, runs: TestRuns) -> tuple[bool, bool]:
    """Return whether a recorded solution passes the gate, and whether it is right."""
    if not solution.strip():
        return False, False
    source = task["declaration"] + solution
    return (
        await passes(source, task["example_test"], runs),
        await passes(source, task["test"], runs),
    )


async def measure(records: Sequence[Row], tasks: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one line per measure."""
    answers = {
        (row["id"].rpartition("/")[2], row["model"]): row["solution"]
        for row in records
        if row["strategy"] == STRATEGY and row["task"] == "humaneval"
    }
    both = [(task, task["id"].rpartition("/")[2]) for task in tasks]
    both = [(t, n) for t, n in both if (n, WEAK) in answers and (n, STRONG) in answers]
    runs = TestRuns("", n=2)
    try:
        weak = [await judged(task, answers[n, WEAK], runs) for task, n in both]
        strong = [await judged(task, answers[n, STRONG], runs) for task, n in both]
    finally:
        await runs.aclose()
    cascade = [w[1] if w[0] else s[1] for w, s in zip(weak, strong, strict=True)]
    rows = {
        "solved, weak only": [w[1] for w in weak],
        "solved, strong only": [s[1] for s in strong],
        "solved, cascade": cascade,
        "share asked of the strong model": [not w[0] for w in weak],
        "accepted by the gate and wrong, of all": [w[0] and not w[1] for w in weak],
        "refused by the gate and right, of all": [not w[0] and w[1] for w in weak],
    }
    return [_line(name, [float(value) for value in values]) for name, values in rows.items()]


def _line(name: str, values: Sequence[float]) -> dict[str, Any]:
    low, high = interval(values)
    told = {"value": sum(values) / len(values), "low": low, "high": high}
    return {"measure": name, **{k: round(v, 3) for k, v in told.items()}, "n": len(values)}


def main(arguments: Sequence[str]) -> None:
    """Measure, and print."""
    folders = [Path(argument) for argument in arguments]
    records, tasks = read(folders[0] / "records.jsonl"), read(folders[1] / "tasks.jsonl")
    for line in asyncio.run(measure(records, tasks)):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
