"""More calls at once than files and connections that a process may open: nothing paid is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemoflows.journal import Journal
from tests.loopback import ModelServer
from tests.support import ROOT

ASKS = """
import asyncio, json, os, resource, sys
url, root, n, soft, hard, held = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Success
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from tests.support import request

near = Endpoint(dialect="openai", base_url=url)
settings = Settings(run="many", endpoints={"near": near}, concurrency=n, deadline_s=100)
llm = LLMClient(Engines(settings), Journal(root, run="many"), settings=settings)

def read(reply, final):
    global holding
    if held and not holding:
        from contextlib import suppress
        with suppress(OSError):  # somebody takes all that is left
            while True:
                holding.append(os.open(os.devnull, os.O_RDONLY))
    return reply.text

holding = []
asks = [CallSpec(request(str(i), model="near:tiny"), read) for i in range(n)]
done = asyncio.run(llm.batch(asks, max_failed=1.0))
answered = sum(isinstance(one, Success) for one in done)
print(json.dumps({"answered": answered, "lost": llm.journal.n_lost}))
"""


def asked(server: ModelServer, root: Path, *numbers: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", ASKS, server.url, str(root), *map(str, numbers)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("soft", "hard"), [(128, 4096), (160, 160)])
def test_more_calls_than_descriptors_lose_nothing(soft: int, hard: int, tmp_path: Path) -> None:
    with ModelServer(latency_s=0.2) as server:
        told = asked(server, tmp_path, 250, soft, hard, 0)
        assert told == {"answered": 250, "lost": 0}
        assert len(server.requests) == len(Journal(str(tmp_path)).keys()) == 250


def test_the_journal_has_a_descriptor_of_its_own(tmp_path: Path) -> None:
    """Somebody else opens all that there are while calls are in flight."""
    with ModelServer(latency_s=0.05) as server:
        told = asked(server, tmp_path, 30, 200, 200, 1)
        assert told["lost"] == 0
        assert len(Journal(str(tmp_path)).keys()) == told["answered"] > 0
