"""A process killed at any point of a batch and started again pays for every request once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.batches import BatchServer
from tests.journals import recorded
from tests.support import ROOT

POINTS = ("list", "create", "created", "poll", "results")
"""Before a batch is announced, announced, created and unanswered, polled, half read."""


@pytest.fixture
def claude() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


def start(server: BatchServer, root: Path, n: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.batches", server.base, str(root), str(n)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(child: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found, err


def n_recorded(root: Path) -> int:
    return len(recorded(root))


def signals(server: BatchServer, root: Path, point: str, n: int, number: int) -> str:
    """Start a process that gets a signal at a point; return what it logged."""
    pids: list[int] = []

    def hook(handler: Any) -> bool:
        before, began_s = n_recorded(root), time.monotonic()
        while point == "results" and n > 1 and n_recorded(root) == before:
            assert time.monotonic() - began_s < 120
        os.kill(pids[0], number)
        if number == signal.SIGKILL:
            handler.close_connection = True
            return True
        return False

    server.state.hooks[point] = hook
    child = start(server, root, n)
    pids.append(child.pid)
    _, err = child.communicate(timeout=240)
    assert child.returncode != 0
    assert point not in server.state.hooks, "the point was reached"
    return err


def expected(n: int) -> list[str]:
    return [f"re question {i}" for i in range(n)]


@pytest.mark.parametrize(("point", "n"), [*((point, 40) for point in POINTS), ("created", 1)])
def test_a_killed_batch_is_paid_once(
    point: str, n: int, claude: BatchServer, tmp_path: Path
) -> None:
    claude.state.n_polls = 3
    claude.add_foreign(n)
    signals(claude, tmp_path / "j", point, n, signal.SIGKILL)
    recorded = n_recorded(tmp_path / "j")
    found, _ = ends(start(claude, tmp_path / "j", n))
    assert found["values"] == expected(n)
    assert found["paid"] == n - recorded
    assert found["in_doubt"] == 0
    assert len(claude.batches) == 2, "ours, and the foreign one"
    assert claude.paid_rows == 2 * n
    if point == "results" and n > 1:
        assert 0 < recorded < n, "what was read was recorded before the kill"


def test_a_batch_killed_again_and_again_is_paid_once(claude: BatchServer, tmp_path: Path) -> None:
    claude.state.n_polls = 6
    for point in ("create", "created", "poll", "results"):
        signals(claude, tmp_path / "j", point, 20, signal.SIGKILL)
    found, _ = ends(start(claude, tmp_path / "j", 20))
    assert found["values"] == expected(20)
    again, _ = ends(start(claude, tmp_path / "j", 20))
    assert (again["values"], again["paid"]) == (expected(20), 0)
    assert (len(claude.batches), claude.paid_rows) == (1, 20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_batch_running_and_says_how_to_pick_it_up(
    number: int, claude: BatchServer, tmp_path: Path
) -> None:
    claude.state.n_polls = 3
    told = signals(claude, tmp_path / "j", "poll", 5, number)
    assert "run the same command again to pick it up" in told
    if number == signal.SIGINT:
        assert "msgbatch_1 (5 requests) is left running" in told
    assert not claude.batches[0].cancelled
    found, _ = ends(start(claude, tmp_path / "j", 5))
    assert found["values"] == expected(5)
    assert (len(claude.batches), claude.paid_rows) == (1, 5)


def test_two_processes_that_ask_at_once_send_one_batch(claude: BatchServer, tmp_path: Path) -> None:
    claude.state.n_polls = 3
    children = [start(claude, tmp_path / "j", 30) for _ in range(2)]
    for child in children:
        assert ends(child)[0]["values"] == expected(30)
    assert (len(claude.batches), claude.paid_rows) == (1, 30)
