"""What several tests share: clients, corpora, and this checkout's commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemoflows.calls import Part, Reply, Request, user
from nemoflows.engines.base import Engine
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.rag.quoting import quoting
from nemoflows.settings import Settings
from nemoflows.types import Evidence, ModelRef, Passage

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

ELBE = """# Rivers

The Elbe rises in the Giant Mountains of Bohemia. It is 1,094 kilometres long.

## Ports

Hamburg is the largest port on the Elbe. Its harbour was founded in 1189.
"""
DANUBE = """# The Danube

The Danube flows through ten countries, more than any other river in the world.
It rises in the Black Forest and ends in the Black Sea.
"""
BREAD = """# Bread

Rye bread keeps for a week. Wheat bread dries out within two days.
"""


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("elbe.md", ELBE), ("danube.md", DANUBE), ("bread.md", BREAD)):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def request(text: str = "hello", *, model: str = "fake:x", **changes: Any) -> Request:
    given: dict[str, object] = {
        "model": ModelRef.model_validate(model),
        "messages": [user([Part(text=text)])],
        "purpose": "summarise",
    }
    return Request.model_validate(given | changes)


def make_llm(
    engine: Engine,
    journal: Path | str,
    *,
    endpoint: str = "fake",
    many_processes: bool = False,
) -> LLMClient:
    known = {} if endpoint in BUILT_IN else {endpoint: Endpoint(dialect="fake")}
    settings = Settings(run="test", endpoints=known)
    engines = Engines(settings, given={endpoint: engine})
    return LLMClient(
        engines,
        Journal(str(journal), run="test"),
        settings=settings,
        many_processes=many_processes,
    )


OF_MAKE = {"MAKEFLAGS", "MAKELEVEL", "ARGS"}
"""What `make test ARGS=...` would hand on to a make that a test runs."""


def run_command(
    *words: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 240,
    typed: str = "",
    apart: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run one of the environment's commands, output captured together unless it is to be parsed."""
    caller = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    command: Sequence[str] = [str(BIN / str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**caller, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        text=True,
        input=typed,
        timeout=timeout_s,
        check=False,
    )


def as_policy(**given: Any) -> tuple[str, str]:
    """Return the words of a command that say how models are asked."""
    return "--policy", json.dumps(given)


def extract_request(question: str, passages: Sequence[Passage]) -> Request:
    """Return the request for quotes."""
    return quoting(question, passages)[0]


def read_quotes(reply: Reply, passages: Sequence[Passage], *, final: bool) -> list[Evidence]:
    """Return what a reply quotes of passages."""
    return quoting("Who?", passages)[1](reply, final)
