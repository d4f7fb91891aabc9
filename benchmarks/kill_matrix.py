"""Kill real runs with SIGKILL, start them again, and count what the provider was asked twice.

    python -m benchmarks.kill_matrix [--quick] [--seed N] [--out FILE]

Each cell is a real command (`pyflyte run`, or a pod's own command) against a provider on loopback
that counts. It is killed again and again, at random moments or at chosen ones, started again each
time, and finished at last. Then, per cell:

    repeated   calls whose outcome was recorded when a kill came, and that were asked again: 0
    extra      replies beyond one per distinct request; never more than were in flight at the kills
    unnamed    extra calls that the journal does not report as uncertain: 0
    same       whether the result equals that of a run that was never killed

Exits with 1 where a promise is broken. `--quick` is the subset that CI runs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.kill_cells import Cell, cells, object_store, run_sequence
from benchmarks.kill_types import Sequel

KILLS_PER_SEQUENCE = 5
SEQUENCES = 5
"""So that a cell comes to 20 kills though some runs end before theirs."""
QUICK_KILLS, QUICK_SEQUENCES = 3, 1
AT_ONCE = 2
"""Sequences that run beside each other: one per core of a small machine."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a cell came to, over all its sequences."""

    cell: str
    kills: int
    calls: int
    in_flight: int
    extra: int
    uncertain: int
    repeated: int
    unnamed: int
    same: bool

    @property
    def holds(self) -> bool:
        """Return whether every promise was kept."""
        return not self.repeated and not self.unnamed and self.same and self.extra <= self.in_flight


def measure(chosen: Sequence[Cell], *, seed: int, n_sequences: int, n_kills: int) -> list[Row]:
    """Run every cell and return a row for each."""
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
    return [_row(cell.name, [s for name, s in done if name == cell.name]) for cell in chosen]


def _row(name: str, sequels: Sequence[Sequel]) -> Row:
    return Row(
        cell=name,
        kills=sum(s.kills for s in sequels),
        calls=sum(s.calls for s in sequels),
        in_flight=sum(s.in_flight for s in sequels),
        extra=sum(s.extra for s in sequels),
        uncertain=sum(s.uncertain for s in sequels),
        repeated=sum(s.repeated for s in sequels),
        unnamed=sum(s.unnamed for s in sequels),
        same=all(s.same for s in sequels),
    )


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    names = [field.name for field in fields(Row)]
    lines = [f"| {' | '.join(names)} |".replace("_", " "), f"|{'---|' * len(names)}"]
    for row in rows:
        values = [getattr(row, name) for name in names]
        lines.append(f"| {' | '.join('yes' if v is True else str(v) for v in values)} |")
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
    kills = sum(row.kills for row in rows)
    broken = [row.cell for row in rows if not row.holds]
    verdict = f"broken in: {', '.join(broken)}" if broken else "every promise was kept"
    told = f"{table(rows)}\n\n{kills} kills, seed {given.seed}: {verdict}.\n"
    print(told)
    if given.out:
        given.out.write_text(f"# Kill matrix\n\n{__doc__.strip()}\n\n{told}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
