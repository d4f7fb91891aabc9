"""A question whose frontier is a batch, as a person types it: interrupted, resumed, paid once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batches import BatchServer
from tests.loopback import ModelServer, purpose_of
from tests.support import BIN, ROOT, as_policy


@pytest.fixture
def claude() -> Iterator[BatchServer]:
    with BatchServer(models=("claude-opus-5-5",)) as running:
        yield running


def start(corpus: Path, near: ModelServer) -> subprocess.Popen[str]:
    named = {"efficient": "near:tiny", "frontier": "anthropic-batch:claude-opus-5-5"}
    words = [
        "pyflyte", "run", "workflows/rag.py", "answer_question", "--question",
        "How long is the Elbe?", "--corpus", str(corpus), *as_policy(**named),
    ]  # fmt: skip
    return subprocess.Popen(
        [str(BIN / words[0]), *words[1:]],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "NEMOFLOWS_ENDPOINTS": near.endpoints("near", usd_per_mtok=[0.0, 0.0]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_question_with_a_batch_as_the_frontier_is_interrupted_resumed_and_paid_once(
    claude: BatchServer, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-claude")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", claude.base)
    with ModelServer() as near:
        child = start(corpus, near)
        claude.state.hooks["poll"] = lambda _: child.send_signal(signal.SIGINT)
        told, _ = child.communicate(timeout=120)
        assert child.returncode != 0
        assert "Batch msgbatch_1 (1 requests) is left running" in told, told
        again = start(corpus, near)
        printed, _ = again.communicate(timeout=120)
        assert again.returncode == 0, printed
        assert "It is so. [1][2]" in printed
        bodies = [row["params"] for batch in claude.batches for row in batch.requests]
        assert [purpose_of(body) for body in bodies] == ["plan", "synthesise"]
        assert (claude.paid_rows, claude.requests) == (2, [])
        # Per call, at batch prices: 100 in at 2, 20 read at 0.10, 10 written at 2.5, 30 out at 10.
        assert "$0.001054 for" in printed
        assert "perhaps billed" not in printed
        n_asked = len(near.requests)
        last = start(corpus, near)
        free, _ = last.communicate(timeout=120)
        assert "paid now $0," in free, free
        assert (len(claude.batches), len(near.requests)) == (2, n_asked)
        assert set(claude.authorizations) == {"Bearer canary-claude"}
    for text in (told, printed, free):
        assert "canary" not in text
