"""Kill real runs with SIGKILL, start them again, and count what the provider was asked twice.

    python -m benchmarks.kill_matrix [--quick] [--seed N] [--out FILE]

Each cell is a real command (`pyflyte run`, or a pod's own command) against a provider on loopback
that counts. It is killed again and again, at random moments or at chosen ones, started again each
time, and finished at last. Then, per cell:

    repeated   calls whose outcome was recorded when a kill came, and that were asked again, and
               test runs of the change flow that were recorded and run again: 0
    extra      replies beyond one per distinct request; never more than were in flight at the kills
    unnamed    extra calls that the journal does not report as in_doubt: 0
    same       whether the result equals that of a run that was never killed

`disk` is one SQLite file, `files` a file per call on a disk, `s3` an object per call. Cells with a
limit of requests per minute run 64 agents under a budget:

    unsent     attempts in doubt beyond the requests that the provider had and did not answer: what
               a kill met between an announcement and its bytes, five at most
    budget off sequences after which the budget counts less than the bill, or more than one
               reservation per attempt in doubt beyond it: 0

Exits with 1 where a promise is broken. `--quick` is the subset that CI runs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

from benchmarks.kill_cells import Cell, cells
from benchmarks.kill_runs import object_store, run_sequence
from benchmarks.kill_types import Sequel, together

KILLS_PER_SEQUENCE = 5
SEQUENCES = 5
"""So that a cell comes to 20 kills though some runs end before theirs."""
QUICK_KILLS, QUICK_SEQUENCES = 3, 1
AT_ONCE = 2
"""Sequences that run beside each other: one per core of a small machine."""


def measure(
    chosen: Sequence[Cell], *, seed: int, n_sequences: int, n_kills: int
) -> dict[str, Sequel]:
    """Run every cell and return what each came to, over all its sequences."""
    jobs = [
        (cell, f"{seed}-{cell.name}-{number}", n_kills if cell.random else 1)
        for cell in chosen
        for number in range(n_sequences if cell.random else 1)
    ]

    def one(job: tuple[Cell, str, int]) -> tuple[str, Sequel]:
        cell, name, kills = job
        with tempfile.TemporaryDirectory(prefix="nemoflows-kills-") as folder:
            sequel = run_sequence(cell, Path(folder), random.Random(name), kills)
        print(f"{cell.name}: {sequel}", file=sys.stderr, flush=True)
        return cell.name, sequel

    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(one, jobs))
    return {cell.name: together([s for name, s in done if name == cell.name]) for cell in chosen}


def table(rows: Mapping[str, Sequel]) -> str:
    """Return the cells' rows as a Markdown table."""
    names = [field.name for field in fields(Sequel)]
    lines = [f"| {' | '.join(['cell', *names])} |".replace("_", " ")]
    lines.append(f"|{'---|' * (len(names) + 1)}")
    for cell, sequel in rows.items():
        values = [getattr(sequel, name) for name in names]
        told = ["yes" if value is True else str(value) for value in values]
        lines.append(f"| {' | '.join([cell, *told])} |")
    return "\n".join(lines)


def main() -> None:
    """Run the matrix and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the subset that CI runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cells whose names contain this")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    chosen = [cell for cell in cells(quick=given.quick) if given.only in cell.name]
    n_sequences = QUICK_SEQUENCES if given.quick else SEQUENCES
    n_kills = QUICK_KILLS if given.quick else KILLS_PER_SEQUENCE
    with object_store():
        rows = measure(chosen, seed=given.seed, n_sequences=n_sequences, n_kills=n_kills)
    kills = sum(sequel.kills for sequel in rows.values())
    broken = [cell for cell, sequel in rows.items() if not sequel.holds]
    verdict = f"broken in: {', '.join(broken)}" if broken else "every promise was kept"
    told = f"{table(rows)}\n\n{kills} kills, seed {given.seed}: {verdict}.\n"
    print(told)
    if given.out:
        given.out.write_text(f"# Kill matrix\n\n{__doc__.strip()}\n\n{told}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
