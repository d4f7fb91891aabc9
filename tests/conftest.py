"""Fixtures: a closed environment, a fake llm, a small corpus, a loopback model server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemoflows.engines.fake import FakeEngine
from nemoflows.engines.http import outages
from nemoflows.engines.vllm import Vllm
from nemoflows.llm.client import LLMClient
from tests.coding import Providers
from tests.engines import ARGUMENTS, InProcess, Loop, serve
from tests.loopback import ModelServer
from tests.object_stores import KEYS, serve_s3
from tests.subjects import LOOPBACK, SENSIBLE, VLLM, Subject
from tests.support import make_llm, write_corpus


def pytest_report_header() -> str:
    """Say at which levels test runs are contained here, for `tests/test_sandbox.py`."""
    from nemoflows.sandbox.runs import available

    return f"sandbox levels of this machine: {', '.join(asyncio.run(available()))}"


@pytest.fixture(autouse=True)
def _closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep every test in a home of its own, offline, without the caller's settings."""
    for name in os.environ:
        if name.startswith(("NEMOFLOWS_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEMOFLOWS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)  # tests that play a pod install the pod's own


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts; their number stays."""
    monkeypatch.setattr(outages, "first_pause_s", lambda: 0.001)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def providers(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    """Yield the two scripted models of a change, on `local`; its sandboxes end with the test."""
    from nemoflows.tasks.coding import sandbox
    from nemoflows.tasks.flyte.session import run

    server.models = ("small", "large")
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", server.endpoints(usd_per_mtok=[1.0, 1.0]))
    yield Providers(server)
    run(sandbox.test_runs().aclose())


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine(answer=lambda _: '{"summary": "fine"}')


@pytest.fixture
def llm(fake: FakeEngine, tmp_path: Path) -> LLMClient:
    return make_llm(fake, tmp_path / "journal")


@pytest.fixture(params=["sqlite", "files"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the root of a journal on a disk, in each of its two layouts."""
    return f"{'file://' if request.param == 'files' else ''}{tmp_path / 'j'}"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Yield a prefix of an object store on loopback."""
    import fsspec

    with serve_s3() as url:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)
        yield f"s3://bucket/{tmp_path.name}"
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "docs")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny Nemotron-H; skips where vLLM is not installed."""
    pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")
    from tests.tiny_nemotron import make

    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def in_process(tiny: Path) -> Iterator[InProcess]:
    """Return the one engine of the session; it starts at the first call."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    lora = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 5}
    made = InProcess(Vllm(ARGUMENTS | lora, deadline_s=300), Loop(), tiny)
    yield made
    made.loop.run(made.engine.aclose())


@pytest.fixture(scope="session")
def vllm_url(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of vLLM's own server."""
    with serve(tiny, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def loopback() -> Iterator[ModelServer]:
    with ModelServer(models=("t", "claude-haiku-4-5")) as running:
        yield running


@pytest.fixture(params=[*SENSIBLE, *(pytest.param(name, marks=pytest.mark.vllm) for name in VLLM)])
def subject(request: pytest.FixtureRequest, loopback: ModelServer) -> Subject:
    """Return an engine to test; the server on loopback is the session's, as new."""
    return _subject(request, loopback)


@pytest.fixture(params=LOOPBACK)
def remote(request: pytest.FixtureRequest, loopback: ModelServer) -> Subject:
    """Return an engine whose server can be told to fail."""
    return _subject(request, loopback)


def _subject(request: pytest.FixtureRequest, loopback: ModelServer) -> Subject:
    request.getfixturevalue("quick")
    for kept in (loopback.faults, loopback.requests, loopback.authorizations, loopback.replies):
        kept.clear()
    name = request.param
    if name == "vllm":
        return Subject(name, loopback, [], in_process=request.getfixturevalue("in_process"))
    url = request.getfixturevalue("vllm_url") if name in VLLM else ""
    return Subject(name, loopback, [], vllm_url=url)
