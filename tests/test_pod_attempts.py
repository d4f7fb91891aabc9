"""A pod killed and started again as the next attempt, its raw output prefix in an object store."""

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

import fsspec
import pytest

import nemoflows
from nemoflows.journal import Journal
from nemoflows.rag.types import ResearchPlan
from nemoflows.search import build_index
from nemoflows.types import ModelRef, Policy
from tests.loopback import ModelServer
from tests.object_stores import KEYS, serve_s3
from tests.pods import outputs_of, prepare_pod

QUESTIONS = [f"How long is the Elbe? Part {n}." for n in range(6)]
RUN = "p/d/execution1"
"""What the harness says the execution is."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Serve a bucket, and yield the environment that leads pods and flytekit to it."""
    with serve_s3() as url:
        own = {**KEYS, "AWS_ENDPOINT_URL": url}
        flyte = {
            "FLYTE_AWS_ENDPOINT": url,
            "FLYTE_AWS_ACCESS_KEY_ID": "test",
            "FLYTE_AWS_SECRET_ACCESS_KEY": "test",
        }
        for name, value in (own | flyte).items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").makedirs("raw", exist_ok=True)
        yield own | flyte
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def attempt(folder: Path, number: int, env: dict[str, str], **inputs: Any) -> subprocess.Popen[str]:
    """Start the research task's own command as that attempt of its node."""
    command, places = prepare_pod(nemoflows.research, folder / str(number), env=env, **inputs)
    raw = str(folder / str(number) / "raw")
    command = [f"s3://raw/ab/execution1-n2-{number}" if word == raw else word for word in command]
    return subprocess.Popen(command, **places, stderr=subprocess.STDOUT, text=True)


def test_the_next_attempt_repeats_nothing_that_was_recorded(
    s3: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    inputs = {
        "plan": ResearchPlan(question="q", questions=QUESTIONS, hops=1),
        "index": build_index(str(corpus), str(tmp_path / "index")),
        "policy": Policy(efficient=ModelRef.model_validate("local:tiny")),
    }
    with ModelServer(latency_s=0.05) as server:
        env = s3 | {"NEMOFLOWS_ENDPOINTS": server.endpoints(), "NEMOFLOWS_CONCURRENCY": "2"}
        first = attempt(tmp_path, 0, env, **inputs)
        while len(server.requests) < 7:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(0.3)
        n_before = len(server.requests)
        recorded = Journal("s3://raw/nemoflows/p/d/journal", run=RUN).keys()
        assert 4 <= len(recorded) < n_before + 1
        second = attempt(tmp_path, 1, env, **inputs)
        said, _ = second.communicate(timeout=120)
        n_after = len(server.requests) - n_before
    assert "not durable" not in said
    outputs = outputs_of(nemoflows.research, tmp_path / "1" / "out")
    assert outputs is not None, said
    assert len(outputs["research"].findings) == len(QUESTIONS)
    assert n_after == 2 * len(QUESTIONS) - len(recorded), "only what was not recorded is asked"
    cut = Journal("s3://raw/nemoflows/p/d/journal", run=RUN).in_doubt()
    assert len(cut) >= n_before - len(recorded)
    assert {found.why for found in cut} <= {"killed"}


CANARIES = {
    "OPENAI_API_KEY": "canary-openai-1",
    "ANTHROPIC_API_KEY": "canary-claude-2",
    "NEAR_KEY": "canary-near-3",
    "FAR_KEY": "canary-far-4",
    "OPENAI_ORG_ID": "canary-org-5",
    "ANTHROPIC_CUSTOM_HEADERS": "x-canary: canary-header-6",
    "HF_TOKEN": "canary-hub-7",
}


@pytest.mark.parametrize(
    "faults", [[], ["401"] * 9, ["html:502", "429:0", "reset_body"], ["malformed", "text", "500"]]
)
def test_no_secret_is_left_anywhere(faults: list[str], corpus: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ModelServer() as near, ModelServer() as far:
        near.faults.extend(faults)
        far.faults.extend(faults[:2])
        declared = json.loads(near.endpoints("near", key_env="NEAR_KEY"))
        declared |= {"far": {"dialect": "anthropic", "base_url": far.url.removesuffix("/v1"),
                             "key_env": "FAR_KEY"}}  # fmt: skip
        far.models = ("claude-haiku-5-5",)
        named = {"efficient": "near:tiny", "frontier": "far:claude-haiku-5-5"}
        done = subprocess.run(
            [
                sys.executable, "-m", "flytekit.clis.sdk_in_container.pyflyte", "-vv", "run",
                "workflows/rag.py", "answer_question", "--question", "How long is the Elbe?",
                "--corpus", str(corpus), "--policy", json.dumps(named),
            ],
            env={**os.environ, **CANARIES, "HOME": str(home), "TMPDIR": str(tmp_path),
                 "PYTHONPATH": ".", "NEMOFLOWS_ENDPOINTS": json.dumps(declared)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        authorizations = set(near.authorizations) | set(far.authorizations)
    assert (done.returncode == 0) == (faults[:1] != ["401"]), done.stdout + done.stderr
    assert authorizations <= {"Bearer canary-near-3", "Bearer canary-far-4"}
    assert "canary" not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("nemoflows" in str(path) for path in files), "journal, index, report are looked at"
    for path in files:
        assert b"canary" not in path.read_bytes(), path
