"""A server that sends one body to everybody, and what a process makes of it."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from nemoflows.calls import Reply
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.http.engine import RemoteEngine
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import Dialect, Endpoint
from nemoflows.money.budgets import Account, Budget
from nemoflows.settings import Settings
from tests.support import request

DIALECTS: tuple[Dialect, ...] = ("compatible", "anthropic")
WORDS = "It is long."
GOOD: dict[str, dict[str, Any]] = {
    "compatible": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "tiny",
        "system_fingerprint": "fp",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": WORDS, "refusal": None},
        }],
        "usage": {
            "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
            "prompt_tokens_details": {"cached_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "anthropic": {
        "id": "m", "type": "message", "role": "assistant", "model": "tiny",
        "content": [{"type": "text", "text": WORDS}], "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 990, "output_tokens": 100, "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0, "output_tokens_details": {"thinking_tokens": 5},
        },
    },
}  # fmt: skip
USED = {
    "compatible": ("prompt_tokens", "completion_tokens"),
    "anthropic": ("input_tokens", "output_tokens"),
}


class Canned(BaseHTTPRequestHandler):
    """Answers every call with the body that stands for it."""

    protocol_version = "HTTP/1.1"
    body: ClassVar[bytes] = b""
    packing: ClassVar[str] = ""
    charset: ClassVar[str] = "utf-8"
    n_sent: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Canned.n_sent += 1
        self.send_response(200)
        self.send_header("content-type", f"application/json; charset={self.charset}")
        if self.packing:
            self.send_header("content-encoding", self.packing)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serve_canned() -> Iterator[str]:
    """Serve `Canned`, and yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def endpoint(dialect: Dialect, url: str) -> Endpoint:
    return Endpoint(dialect=dialect, base_url=url, usd_per_mtok=(1.0, 5.0))


def engine(dialect: Dialect, url: str = "http://127.0.0.1:1") -> RemoteEngine:
    kind = Anthropic if dialect == "anthropic" else OpenAI
    return kind(endpoint(dialect, url), name="near", deadline_s=20)


Result = Success[str] | Failure


def ask(
    dialect: Dialect, url: str, body: bytes, root: Path | str, budget: Budget | None = None
) -> tuple[Result, int, LLMClient]:
    """Return what a new process makes of a body, and how often it asked for it."""
    Canned.body, before = body, Canned.n_sent
    settings = Settings(run="bodies", endpoints={"near": endpoint(dialect, url)})
    llm = LLMClient(Engines(settings), Journal(str(root), run="bodies"), settings=settings)
    account = Account(budget=budget or Budget())
    spec = CallSpec(request(model="near:tiny"), lambda reply, _: reply.text, account=account)

    async def work() -> Result:
        try:
            return await llm.complete(spec)
        finally:
            await llm.aclose()

    return asyncio.run(work()), Canned.n_sent - before, llm


def odd(dialect: Dialect, *path: str | int, value: object) -> bytes:
    """Return the good body with one field of another kind."""
    body = copy.deepcopy(GOOD[dialect])
    at: Any = body
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(body).encode()


def kept(body: bytes) -> Reply:
    return Reply(raw=body.decode())
