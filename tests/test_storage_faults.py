"""Storage that fails under the journal: typed, said, nothing lost that was recorded."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.errors import EndpointDown
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Success
from tests.object_stores import KEYS, FaultyS3, serve_s3
from tests.support import ROOT, make_llm, request


def fake() -> FakeEngine:
    return FakeEngine([Rule(reply="hi")])


def asks(n: int, *, of: str = "") -> list[CallSpec[str]]:
    return [CallSpec(request(f"{of}{number}"), lambda reply, _: reply.text) for number in range(n)]


def batch(llm: LLMClient, n: int, *, of: str = "") -> list[object]:
    results = asyncio.run(llm.batch(asks(n, of=of)))
    llm.flush()
    return list(results)


@pytest.fixture(scope="module")
def whole_s3() -> Iterator[str]:
    with serve_s3() as url:
        yield url


@pytest.fixture
def s3(whole_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    faulty = FaultyS3(whole_s3)
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": faulty.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").makedirs("journals", exist_ok=True)
    yield faulty
    faulty.faults.clear()
    faulty.close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def root() -> str:
    return f"s3://journals/{uuid.uuid4()}"


def test_calls_are_recorded_in_an_object_store_and_replayed(s3: FaultyS3, root: str) -> None:
    first, second = fake(), fake()
    batch(make_llm(first, root), 20)
    before = s3.seen["GET"] + s3.seen["HEAD"]
    batch(make_llm(second, root), 20)
    assert second.asked == []
    assert s3.seen["GET"] + s3.seen["HEAD"] - before <= 20, "one request per record"
    assert make_llm(fake(), root).in_doubt() == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_store_that_fails_once_is_asked_again(status: int, s3: FaultyS3, root: str) -> None:
    s3.faults = {"PUT": [status], "GET": [status]}
    engine = fake()
    llm = make_llm(engine, root)
    assert all(isinstance(result, Success) for result in batch(llm, 3))
    assert llm.journal.durable
    again = fake()
    batch(make_llm(again, root), 3)
    assert again.asked == []


def test_a_store_that_takes_no_writes_costs_durability_and_not_the_run(
    s3: FaultyS3, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch(make_llm(fake(), root), 2, of="before ")
    s3.faults = {"PUT": [500, -1]}
    llm = make_llm(fake(), root)
    assert all(isinstance(result, Success) for result in batch(llm, 2))
    assert not llm.journal.durable
    assert llm.journal.n_lost == 2
    assert "could not be recorded" in caplog.text
    s3.faults.clear()
    again = fake()
    batch(make_llm(again, root), 2, of="before ")
    assert again.asked == [], "what was recorded before is still there"


def test_a_store_that_cannot_be_read_stops_the_run_before_anything_is_paid(
    s3: FaultyS3, root: str
) -> None:
    s3.faults = {"GET": [500, -1], "HEAD": [500, -1]}
    engine = fake()
    with pytest.raises(EndpointDown, match=r"does not answer.*started again, the run goes on"):
        batch(make_llm(engine, root), 2)
    assert engine.asked == []


def test_a_store_that_hangs_is_a_passing_error(
    s3: FaultyS3, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = {"config_kwargs": {"read_timeout": 0.3, "retries": {"max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {**impatient, "retries": 1})
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    s3.hang_s = {"GET": 3.0}
    engine = fake()
    with pytest.raises(EndpointDown, match="does not answer"):
        batch(make_llm(engine, root), 1)
    assert engine.asked == []


FULL = """
import asyncio, json, logging, resource, signal, sys
from tests.test_storage_faults import asks, fake
from tests.support import make_llm

llm = make_llm(fake(), sys.argv[1])
asyncio.run(llm.batch(asks(3, of="before ")))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
results = asyncio.run(llm.batch(asks(3)))
print(json.dumps([len(results), llm.journal.n_lost, llm.journal.durable]))
"""


def run_python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_full_disk_costs_durability_and_not_the_run(tmp_path: Path) -> None:
    done = run_python(FULL, str(tmp_path / "j"))
    assert json.loads(done.stdout) == [3, 3, False]
    assert "could not be recorded" in done.stderr
    again = fake()
    batch(make_llm(again, tmp_path / "j"), 3, of="before ")
    assert again.asked == []
    assert not list((tmp_path / "j" / "calls").rglob(".tmp-*")), "half a record is not left behind"


READ_ONLY = """
import asyncio, json, os, sys
from tests.test_storage_faults import asks, fake
from tests.support import make_llm

os.setuid(65534)
engine = fake()
llm = make_llm(engine, sys.argv[1])
results = asyncio.run(llm.batch([*asks(3), *asks(2, of="new ")]))
print(json.dumps([len(results), len(engine.asked), llm.journal.n_lost]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_a_read_only_root_is_replayed_from() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        root = Path(folder, "j")
        batch(make_llm(fake(), root), 3)
        for path in [Path(folder), root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = run_python(READ_ONLY, str(root))
    assert json.loads(done.stdout) == [5, 2, 2]
    assert "could not be recorded" in done.stderr


def test_clocks_that_jump_or_differ_change_no_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for offset_s in (86_400.0, -86_400.0):
        with monkeypatch.context() as patch:
            import time

            real = time.time
            patch.setattr(
                "nemoflows.llm.client.time.time", lambda real=real, by=offset_s: real() + by
            )
            batch(make_llm(fake(), tmp_path), 2, of=f"{offset_s} ")
    for offset_s in (86_400.0, -86_400.0):
        again = fake()
        llm = make_llm(again, tmp_path)
        batch(llm, 2, of=f"{offset_s} ")
        assert again.asked == []
        assert llm.in_doubt() == []


MANY = """
import asyncio, sys
from tests.test_storage_faults import asks, fake
from tests.support import make_llm

root, own = sys.argv[1:]
llm = make_llm(fake(), root)
asyncio.run(llm.batch([*asks(64, of="shared "), *asks(64, of=own)]))
llm.flush()
"""


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_four_processes_of_64_calls_lose_and_tear_nothing(
    kind: str, s3: FaultyS3, root: str, tmp_path: Path
) -> None:
    place = root if kind == "s3" else str(tmp_path / "j")
    assert s3.url
    names = [f"process {number} " for number in range(4)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, place, name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in names
    ]
    assert [process.wait() for process in running] == [0] * 4
    journal = Journal(place, run="test")
    assert len(list(journal.records())) == 64 + 4 * 64
    assert journal.n_damaged == 0
    assert journal.in_doubt() == []
    again = fake()
    for name in ["shared ", *names]:
        batch(make_llm(again, place), 64, of=name)
    assert again.asked == []
