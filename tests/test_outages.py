"""Providers and stores that are away in the middle of a pod's work: waited for in one attempt.

TEST_OUTAGE_S lengthens the outages.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import nemoflows
from nemoflows.rag.types import ResearchPlan
from nemoflows.search import build_index
from nemoflows.storage import patience
from nemoflows.types import ModelRef, Policy
from tests.loopback import ModelServer
from tests.object_stores import KEYS, FaultyS3, serve_s3
from tests.pods import Finished, error_of, outputs_of, prepare_pod, run_pod
from tests.test_pods import value

AWAY_S = float(os.environ.get("TEST_OUTAGE_S", "5"))
POLICY = Policy(efficient=ModelRef.model_validate("local:tiny"))
QUESTIONS = [f"{word} is the Elbe?" for word in ("How long", "Where", "How deep", "Why")]
PLAN = ResearchPlan(question="What is the Elbe?", questions=QUESTIONS)


class Second:
    """Does something once, when a server has answered its second request."""

    def __init__(self, server: ModelServer, then: Any) -> None:
        self.answered: list[str] = []
        self.then, self._lock = then, threading.Lock()
        server.on_answered = self.told

    def told(self, request_id: str) -> None:
        with self._lock:
            self.answered.append(request_id)
            is_second = len(self.answered) == 2
        if is_second:
            self.then()


def researched(done: Finished, asked: Second) -> None:
    found = value(done, "research")
    assert [finding.not_found for finding in found.findings] == [None] * 4, "one attempt was enough"
    assert len(asked.answered) == len(set(asked.answered)) >= 8, "no call was answered twice"
    assert "does not answer since" in done.log
    assert "answers again" in done.log


def test_a_provider_that_is_away_is_waited_for(corpus: Path, tmp_path: Path) -> None:
    index = build_index(str(corpus), str(tmp_path / "index"))
    with ModelServer() as server:
        asked = Second(server, lambda: server.leave(AWAY_S))
        env = {
            "NEMOFLOWS_ENDPOINTS": server.endpoints(),
            "NEMOFLOWS_JOURNAL": str(tmp_path / "journal"),
        }
        given = {"plan": PLAN, "index": index, "policy": POLICY}
        done = run_pod(nemoflows.research, tmp_path / "pod", env=env, **given)
    researched(done, asked)


def test_one_that_is_gone_for_good_is_left_to_flytes_next_attempt(tmp_path: Path) -> None:
    dead = {"local": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    policy = Policy(frontier=ModelRef.model_validate("local:x"))
    env = {"NEMOFLOWS_ENDPOINTS": json.dumps(dead), "NEMOFLOWS_DEADLINE_S": "2"}
    given = {"question": "Who?", "policy": policy}
    done = run_pod(nemoflows.plan_research, tmp_path / "pod", env=env, **given)
    assert done.error is not None
    assert done.error.kind == done.error.RECOVERABLE
    assert "did not answer" in done.error.message
    assert "http://127.0.0.1:9" in done.error.message
    assert done.status == 0, "Flyte goes by the error document"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, corpus: Path) -> Iterator[FaultyS3]:
    """Yield what stands before a pod's own store, in which the corpus lies."""
    with serve_s3() as url:
        for name, content in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, content)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        files = fsspec.filesystem("s3")
        files.makedirs("bucket", exist_ok=True)
        files.put(str(corpus), f"bucket/{corpus.parent.name}", recursive=True)
        for name in (*KEYS, "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name)
        faulty = FaultyS3(url)
        yield faulty
        faulty.close()
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def attempted(task: Any, store: FaultyS3, folder: Path, **given: Any) -> Finished:
    """Run a pod; what is away is back a while after the pod has told that it waits."""
    env = {
        "FLYTE_AWS_ENDPOINT": store.url,
        "FLYTE_AWS_ACCESS_KEY_ID": "minio",
        "FLYTE_AWS_SECRET_ACCESS_KEY": "miniostorage",
        "AWS_MAX_ATTEMPTS": "2",  # the file system's own: each outage is told after all of them
        "NEMOFLOWS_DEADLINE_S": str(120 + AWAY_S),
    }
    raw = f"s3://bucket/{folder.parent.name}/ab/execution1-n2-0"
    env |= given.pop("env", {})
    command, places = prepare_pod(task, folder, env=env, raw=raw, **given)
    pod = subprocess.Popen(command, **places, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in pod.stdout or []:
        lines.append(line)
        if "does not answer since" in line:
            threading.Timer(AWAY_S, store.come_back).start()
    found = outputs_of(task, folder / "out"), error_of(folder / "out")
    return Finished(*found, "".join(lines), pod.wait())


@pytest.mark.parametrize("how", ["leave", "refuse"])
def test_a_store_that_is_away_is_waited_for_at_its_first_byte(
    how: str, store: FaultyS3, corpus: Path, tmp_path: Path
) -> None:
    getattr(store, how)()
    docs = f"s3://bucket/{corpus.parent.name}"
    done = attempted(nemoflows.build_index, store, tmp_path / "pod", corpus=docs)
    assert value(done).n_documents == 3
    assert "The store s3://bucket does not answer since" in done.log
    assert "answers again" in done.log


def test_that_there_is_no_such_file_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [FileNotFoundError(), *[OSError(errno.EIO, "away")] * 2]

    class Files:
        def info(self, _: str) -> None:
            raise errors.pop()

    monkeypatch.setattr(patience, "_TOLD_AFTER_S", 0.0)
    monkeypatch.setattr(patience, "_wait_s", [lambda: 60.0])
    with pytest.raises(FileNotFoundError):
        patience.PatientFiles(Files(), "s3://b").info("a")
    away, again = caplog.messages
    assert away.startswith("The store s3://b does not answer since")
    assert again.startswith("The store s3://b answers again")


@pytest.mark.parametrize("how", ["leave", "refuse"])
def test_a_store_that_is_away_in_the_middle_loses_no_paid_call(
    how: str, store: FaultyS3, corpus: Path, tmp_path: Path
) -> None:
    index = build_index(str(corpus), str(tmp_path / "index"))
    with ModelServer() as server:
        asked = Second(server, getattr(store, how))
        given = {"plan": PLAN, "index": index, "policy": POLICY}
        env = {"NEMOFLOWS_ENDPOINTS": server.endpoints()}
        done = attempted(nemoflows.research, store, tmp_path / "pod", env=env, **given)
    researched(done, asked)
