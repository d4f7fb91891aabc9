"""Repair functions with a planted bug by search: python -m benchmarks.repair DIR [--cores N].

DIR holds `tasks.jsonl`, one object a line: `declaration`, `buggy` (the body), `test`,
`example_test`, `entry_point`, as HumanEvalPack has them. Prints JSON lines: how many are fixed with
the full tests as gate, and how many with the visible examples as gate, judged by the full tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from nemoflows.coding import functions
from nemoflows.coding.mutation.search import MAX_RUNS, search
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import CodingTask, Repository
from nemoflows.errors import BadInput
from nemoflows.sandbox.levels import Limits
from nemoflows.sandbox.trees import Tree

LIMITS = Limits(seconds=120, test_seconds=1, memory_mib=1024, processes=16, file_mib=16)
FEW_RUNS = 50
Gate = Literal["full", "examples"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one function."""

    n_runs: int
    plausible: bool
    """Whether the gate's tests pass."""
    correct: bool
    """Whether the full tests pass."""


async def repair(item: dict[str, Any], gate: Gate, runs: TestRuns, cores: int) -> Tried:
    """Search for a repair of one function, with the gate's tests in view."""
    source = item["declaration"] + item["buggy"]
    full = functions.tree(source, item["test"])
    tree = full if gate == "full" else _with_examples(source, item["example_test"])
    baseline = await baseline_of(_task(tree), tree, runs) if tree else None
    if tree is None or baseline is None or not baseline.target:  # the examples do not show it
        return Tried(0, plausible=True, correct=await _passes(full, runs))
    found = await search(baseline, tree, runs, at_once=cores)
    if found.tree is None:
        return Tried(found.n_runs, plausible=False, correct=False)
    judged = Tree({**found.tree.files, functions.TESTS: full.files[functions.TESTS]})
    return Tried(found.n_runs, plausible=True, correct=await _passes(judged, runs))


def _with_examples(source: str, tests: str) -> Tree | None:
    """Return a function with its examples; None where there are none."""
    try:
        return functions.tree(source, tests)
    except BadInput:
        return None


async def _passes(tree: Tree, runs: TestRuns) -> bool:
    return not (await baseline_of(_task(tree), tree, runs)).target


def _task(tree: Tree) -> CodingTask:
    repository = Repository(uri="", name="function", tree=tree.hash, n_files=len(tree.files))
    return CodingTask(repository=repository, issue="It is wrong.", limits=LIMITS)


async def measure(
    items: Sequence[dict[str, Any]], gate: Gate, cores: int, records: str
) -> dict[str, Any]:
    """Return the counts of one gate over all functions."""
    runs = TestRuns(records, n=cores)
    started_s = time.monotonic()
    try:
        tried = [await _told(item, gate, runs, cores) for item in items]
    finally:
        await runs.aclose()
    correct = [each for each in tried if each.correct]
    return {
        "gate": gate,
        "cores": cores,
        "functions": len(items),
        "correct": round(len(correct) / len(items), 3),
        f"correct_within_{FEW_RUNS}_runs": round(
            sum(each.n_runs <= FEW_RUNS for each in correct) / len(items), 3
        ),
        "plausible_but_wrong": round(
            sum(each.plausible and not each.correct for each in tried) / len(items), 3
        ),
        "max_runs": MAX_RUNS,
        "median_runs": median(each.n_runs for each in tried),
        "test_runs": runs.n_run,
        "seconds": round(time.monotonic() - started_s, 1),
    }


async def _told(item: dict[str, Any], gate: Gate, runs: TestRuns, cores: int) -> Tried:
    tried = await repair(item, gate, runs, cores)
    if os.environ.get("VERBOSE"):
        print(item["id"], item.get("bug_type"), tried, flush=True)
    return tried


def main() -> None:
    """Print one JSON line per gate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gate", choices=["full", "examples"], action="append")
    parser.add_argument("--records", default="", help="a folder that keeps test runs and replays")
    parser.add_argument("--only", type=int, default=0, help="the first N functions alone")
    given = parser.parse_args()
    lines = (given.folder / "tasks.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines][: given.only or None]
    for gate in given.gate or ["full", "examples"]:
        print(json.dumps(asyncio.run(measure(items, gate, given.cores, given.records))), flush=True)


if __name__ == "__main__":
    main()
