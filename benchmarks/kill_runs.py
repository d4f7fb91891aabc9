"""A run of a cell of the kill matrix: started, killed at its moment, finished, and counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from benchmarks import kill_coding
from benchmarks.kill_batches import batch_sequence
from benchmarks.kill_cells import CALL_USD, LATENCY_S, Cell, Provider, Stage
from benchmarks.kill_types import Sequel
from nemoflows.journal import InDoubt, Journal
from tests.object_stores import KEYS, serve_s3

SETTLE_S = 0.3
"""Time for the provider to read what a killed run had sent."""
ATTEMPT_S = 180.0
"""Time after which a run that nobody kills counts as hung."""


def run_sequence(cell: Cell, folder: Path, draw: random.Random, n_kills: int) -> Sequel:
    """Kill a run so many times, finish it, and hold it against one that was never killed."""
    if cell.flow == "batch":
        return batch_sequence(cell.store, folder, draw, n_kills)
    with Provider() as provider:
        stage = Stage(cell, folder, provider, run=f"kills-{folder.name}")
        recorded: set[str] = set()
        runs: kill_coding.Runs = {}
        in_flight = repeated = kills = 0
        for number in range(n_kills):
            before = Counter(provider.seen)
            kills += killed(stage, number, draw)
            asked = provider.seen - before
            repeated += sum(asked[request_id] for request_id in recorded)
            recorded = recorded_ids(stage.journal)
            runs, before_runs = kill_coding.recorded_runs(stage.journal.root), runs
            repeated += kill_coding.n_repeated(before_runs, runs)
            in_flight += sum(n for request_id, n in asked.items() if request_id not in recorded)
        before = Counter(provider.seen)
        result = finished(stage, n_kills)
        repeated += sum((provider.seen - before)[request_id] for request_id in recorded)
        repeated += kill_coding.n_repeated(runs, kill_coding.recorded_runs(stage.journal.root))
        extra = Counter({name: n - 1 for name, n in provider.seen.items() if n > 1})
        cut = stage.journal.in_doubt()
        named = request_ids(stage.journal, {attempt.key for attempt in cut})
        is_near = not cell.rpm or _is_near_the_bill(provider, stage.journal, cut)
    wanted = unkilled(cell, folder)
    if result != wanted:
        print(f"{cell.name}, {folder.name}: expected\n{wanted}\ngot\n{result}", flush=True)
    return Sequel(
        kills=kills,
        calls=len(provider.seen),
        in_flight=in_flight,
        extra=extra.total(),
        in_doubt=len(cut),
        repeated=repeated,
        unnamed=sum(n for request_id, n in extra.items() if request_id not in named),
        same=result == wanted,
        unsent=max(0, len(cut) - in_flight) if cell.rpm else 0,
        budget_off=int(not is_near),
    )


def _is_near_the_bill(provider: Provider, journal: Journal, cut: Sequence[InDoubt]) -> bool:
    """Return whether a budget counts the bill, and one reservation at most per attempt in doubt."""
    bill_usd = provider.n_seen * CALL_USD
    reserved_usd = sum(attempt.reserved_usd or 0.0 for attempt in cut)
    used_usd = sum(call.usd or 0.0 for call in journal.facts(journal.run)) + reserved_usd
    return bill_usd - 1e-9 <= used_usd <= bill_usd + reserved_usd + 1e-9


def recorded_ids(journal: Journal) -> set[str]:
    """Return the provider's ids of all requests whose outcome is recorded."""
    return request_ids(journal, journal.keys())


def request_ids(journal: Journal, keys: Sequence[str] | set[str]) -> set[str]:
    """Return the provider's ids of the requests with these keys."""
    records = (journal.outcome(key) for key in keys)
    return {record.outcome.reply.request_id for record in records if record is not None}


def killed(stage: Stage, number: int, draw: random.Random) -> int:
    """Start a run and kill it at its moment; return 1, or 0 where it had finished before."""
    child = stage.start(number)
    trigger(stage, child, draw)
    try:
        child.communicate(timeout=ATTEMPT_S)
    finally:
        kill(child)
    stage.provider.told = lambda *_: None
    time.sleep(SETTLE_S)
    return int(child.returncode == -signal.SIGKILL)


def kill(child: subprocess.Popen[str]) -> None:
    """Kill a run and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def trigger(stage: Stage, child: subprocess.Popen[str], draw: random.Random) -> None:
    """Arrange that a run is killed at the moment of its cell."""
    moment = stage.cell.moment
    if moment == "random" and draw.random() < 0.3:
        threading.Timer(draw.uniform(1.0, 5.0), kill, [child]).start()
    elif moment in {"random", "before an answer", "after an answer"}:
        event = "answered" if moment == "after an answer" else "asked"
        left = stage.cell.n_calls - len(stage.journal.keys())
        at = stage.provider.n_seen + draw.randint(1, max(1, left))
        pause_s = draw.uniform(0, 2 * LATENCY_S) if moment == "random" else 0.0
        kill_at(stage, child, event, at, pause_s)
    elif moment == "between calls":
        watch(child, lambda: 1 <= len(stage.journal.keys()) == stage.provider.n_seen)
    elif moment == "index build":
        index = stage.folder / "home" / ".nemoflows" / "index"
        watch(child, lambda: any(path.is_file() for path in index.rglob("*")))
    else:
        ended = "synthesise"
        watch(child, lambda: ended in stage.provider.purposes() and _page_begun(stage))


def _page_begun(stage: Stage) -> bool:
    return (stage.folder / "home" / ".nemoflows" / "reports").exists()


def kill_at(
    stage: Stage, child: subprocess.Popen[str], event: str, at: int, pause_s: float
) -> None:
    """Kill a run when the provider has seen so many requests."""

    def told(what: str, n_seen: int) -> None:
        if what == event and n_seen >= at:
            time.sleep(pause_s)
            kill(child)

    stage.provider.told = told


def watch(child: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    """Kill a run as soon as something is so; a run that ends first is left alone."""

    def look() -> None:
        while child.poll() is None:
            if is_time():
                kill(child)
                return
            time.sleep(0.002)

    threading.Thread(target=look, daemon=True).start()


def finished(stage: Stage, number: int) -> str:
    """Run the command to its end and return its result."""
    child = stage.start(number)
    try:
        printed, _ = child.communicate(timeout=ATTEMPT_S)
    finally:
        kill(child)
    if child.returncode:
        raise AssertionError(f"{stage.cell.name} ended with {child.returncode}:\n{printed}")
    return stage.result(number, printed)


def unkilled(cell: Cell, folder: Path) -> str:
    """Return the result of a run of the same command that nobody killed, in the same place."""
    import shutil

    for name in ("home", "journal", "index"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with Provider() as provider:
        alone = replace(cell, store="disk", moment="random", rpm=0)
        return finished(Stage(alone, folder, provider, run="unkilled"), 1_000)


@contextmanager
def object_store() -> Iterator[None]:
    """Serve S3 on loopback, for this process and the runs it starts."""
    import fsspec

    with serve_s3() as url:
        os.environ |= {**KEYS, "AWS_ENDPOINT_URL": url}
        fsspec.filesystem("s3").makedirs("kills", exist_ok=True)
        yield
