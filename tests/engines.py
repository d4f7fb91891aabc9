"""Real vLLM for tests: the engine in process and its servers, started once per session."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nemoflows.calls import Answered, Outcome, Request
from nemoflows.engines.vllm import Vllm
from tests.support import request

T = TypeVar("T")
CONTEXT_TOKENS = 4096
ARGUMENTS: dict[str, Any] = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_model_len": CONTEXT_TOKENS,
    "max_num_seqs": 64,
}
SERVED = ("t", "claude-haiku-4-5")
"""Names of the server's one model; the second is one that our dialect gives thinking budgets."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["a", "b", "c"]}},
        "home": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
}
LONG: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "enum": ["sooner or later " * 200]}},
    "required": ["text"],
    "additionalProperties": False,
}
"""What takes any model hundreds of tokens to write, also where bounds are dropped on the way."""


def choices(n: int) -> dict[str, Any]:
    """Return a schema with nesting, made of what every dialect enforces; only `n` fits it."""
    home = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Ulm", "Bonn"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"n": {"type": "integer", "enum": [n]}, "home": home},
        "required": ["n", "home"],
        "additionalProperties": False,
    }


def chosen(outcome: Outcome) -> int:
    """Return the `n` of a reply that fits `choices(n)`, or fail."""
    assert isinstance(outcome, Answered), outcome
    found = json.loads(outcome.reply.text)
    assert set(found) == {"n", "home"}
    assert set(found["home"]) == {"city"}
    assert found["home"]["city"] in {"Ulm", "Bonn"}
    return int(found["n"])


def valid(outcome: Outcome) -> dict[str, Any]:
    """Return the reply as an object that fits SCHEMA, or fail."""
    assert isinstance(outcome, Answered), outcome
    found = json.loads(outcome.reply.text)
    assert set(found) == {"name", "age", "tags", "home"}
    assert isinstance(found["name"], str)
    assert len(found["name"]) <= 12
    assert type(found["age"]) is int
    assert 0 <= found["age"] <= 120
    assert len(found["tags"]) <= 3
    assert set(found["tags"]) <= {"a", "b", "c"}
    assert set(found["home"]) == {"city"}
    assert len(found["home"]["city"]) <= 8
    return dict(found)


GREEDY: dict[str, Any] = {"temperature": 0}
"""Sampling under which the tiny model ends nothing by itself."""


class Loop:
    """An event loop in a thread, as a task's process has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=300)


@dataclass(frozen=True)
class InProcess:
    """The engine of this process, the loop it belongs to and the model it runs."""

    engine: Vllm
    loop: Loop
    model: Path

    def request(self, text: str = "hello", *, lora: Path | None = None, **more: Any) -> Request:
        """Return a request to the model, or to the model with an adapter."""
        spelling = f"vllm:{self.model}" + (f"+{lora}" if lora else "")
        return request(text, model=spelling, **more)

    async def ask(self, text: str = "hello", **more: Any) -> Outcome:
        """Ask, on the engine's loop."""
        return await self.engine.complete(self.request(text, **more), lambda _: None)

    async def ask_all(self, n: int, **changes: Any) -> list[Outcome]:
        """Ask for `n` things at once."""
        return await asyncio.gather(*(self.ask(f"person {i}", **changes) for i in range(n)))

    def n_unfinished(self) -> int:
        running = [slot.running for slot in self.engine._slots.values()]
        return sum(r.engine.get_num_unfinished_requests() for r in running if r is not None)


@contextmanager
def serve(model: Path, log: Path) -> Iterator[str]:
    """Run vLLM's own server, and give its address without a path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
        "--served-model-name", *SERVED, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "bfloat16", "--enforce-eager", "--max-model-len", str(CONTEXT_TOKENS),
        "--max-num-seqs", "64", "--no-enable-prefix-caching",
        "--reasoning-parser", "nemotron_v3", "--scheduling-policy", "priority",
        "--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}',
        "--enable-prompt-tokens-details", "--override-generation-config", '{"temperature": 0}',
    ]  # fmt: skip
    with started(command, f"http://127.0.0.1:{port}", "/health", log) as url:
        yield url


@contextmanager
def started(command: list[str], url: str, ready: str, log: Path, **env: str) -> Iterator[str]:
    """Run a server of vLLM's CPU build until a path of it answers, and give its address."""
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", **env}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(process, url + ready, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


def n_running(url: str) -> int:
    """Return the requests that a server has in its engine."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(gauges))


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(2400):
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            urllib.request.urlopen(url).close()
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no server after four minutes: {log.read_text(errors='replace')[-3000:]}")
