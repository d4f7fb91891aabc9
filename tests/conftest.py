"""Fixtures: a closed environment, a scripted door, a small corpus, a loopback model server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemoflows.engines.scripted import Scripted
from nemoflows.llm import Door
from tests.loopback import ModelServer
from tests.support import make_door, write_corpus


@pytest.fixture(autouse=True)
def _closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test in a home of its own, offline, without the caller's settings."""
    for name in os.environ:
        if name.startswith(("NEMOFLOWS_", "OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEMOFLOWS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def scripted() -> Scripted:
    return Scripted(answer=lambda _: '{"summary": "fine"}')


@pytest.fixture
def door(scripted: Scripted, tmp_path: Path) -> Door:
    return make_door(scripted, tmp_path / "journal")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "docs")
