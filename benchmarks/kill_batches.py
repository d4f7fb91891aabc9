"""Cells of the kill matrix whose calls go out as Message Batches: killed between the exchanges.

What counts is rows that the provider bills: a batch whose creation is cut off is found again, never
sent a second time, so that nothing is extra and nothing in doubt.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kill_types import Sequel
from nemoflows.journal import Journal
from tests.batches import BatchServer
from tests.support import ROOT

N_ROWS = 40
N_POLLS = 3
POINTS = ("list", "create", "created", "poll", "results")
"""Before a batch is announced, announced, created and unanswered, polled, half read."""
RUN_S = 120.0


def batch_sequence(store: str, folder: Path, draw: random.Random, n_kills: int) -> Sequel:
    """Kill a process that asks through batches so many times, finish it, count billed rows."""
    places = {"s3": f"s3://kills/{folder.name}", "files": f"file://{folder / 'journal'}"}
    root = places.get(store, str(folder / "journal"))
    with BatchServer() as server:
        server.state.n_polls = N_POLLS
        server.add_foreign(N_ROWS)
        foreign = server.paid_rows
        kills = sum(_killed(server, root, draw) for _ in range(n_kills))
        printed = _finished(server, root)
        extra = server.paid_rows - foreign - N_ROWS
    with BatchServer() as alone:
        same = printed == _finished(alone, str(folder / "alone"))
    in_doubt = len(Journal(root, run="test").in_doubt())
    return Sequel(
        kills=kills,
        calls=N_ROWS,
        in_flight=0,
        extra=extra,
        in_doubt=in_doubt,
        repeated=extra,
        unnamed=extra,
        same=same,
    )


def _start(server: BatchServer, root: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batches", server.base, root, str(N_ROWS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _killed(server: BatchServer, root: str, draw: random.Random) -> int:
    child = _start(server, root)
    if draw.random() < 0.4:
        threading.Timer(draw.uniform(1.0, 4.0), child.kill).start()
    else:
        server.state.hooks[draw.choice(POINTS)] = _killing(child)
    child.communicate(timeout=RUN_S)
    server.state.hooks.clear()
    return int(child.returncode == -signal.SIGKILL)


def _killing(child: subprocess.Popen[str]) -> Callable[[Any], bool]:
    def hook(handler: Any) -> bool:
        child.kill()
        handler.close_connection = True
        return True

    return hook


def _finished(server: BatchServer, root: str) -> str:
    child = _start(server, root)
    printed, said = child.communicate(timeout=RUN_S)
    if child.returncode:
        raise AssertionError(f"the batch process ended with {child.returncode}:\n{said}")
    return str(json.loads(printed)["values"])
