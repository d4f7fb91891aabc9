"""A real small instruct model in the loop, on this machine's CPU: `make test-models`."""

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

from benchmarks.small_model import MODEL, endpoints, served
from tests.support import ROOT, write_corpus

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif("TEST_MODELS" not in os.environ, reason="`make test-models` runs these"),
]
QUESTIONS = {"How long is the Elbe?": "1,094", "How long does rye bread keep?": "a week"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture
def flow(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command that researches and answers one question over a small corpus."""
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", endpoints(server))
    write_corpus(tmp_path / "docs")
    return [sys.executable, "-m", "tests.models_flow", f"near:{MODEL}", str(tmp_path)]


def told(command: list[str], question: str) -> dict[str, Any]:
    done = subprocess.run(
        [*command, question], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_every_reply_is_well_formed_or_recovered_and_replays(
    question: str, flow: list[str]
) -> None:
    first = told(flow, question)
    assert any(QUESTIONS[question] in quote for quote in first["quotes"])
    assert first["text"]
    assert {"extract", "summarise", "synthesise"} <= {call["purpose"] for call in first["calls"]}
    again = told(flow, question)
    assert again["text"] == first["text"]
    assert all(call["replayed"] for call in again["calls"])


def test_a_killed_run_asks_nothing_again_that_is_recorded(flow: list[str], tmp_path: Path) -> None:
    question = "Which port on the Elbe is the largest?"
    running = subprocess.Popen([*flow, question], cwd=ROOT, stdout=subprocess.DEVNULL)
    noted = tmp_path / "recorded"
    while not noted.exists() and running.poll() is None:  # one call is recorded
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    found = told(flow, question)
    assert found["calls"][0]["replayed"]
    assert found["text"]
