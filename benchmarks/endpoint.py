"""A model endpoint on loopback, in a process of its own, that does nothing but answer in time.

    with Endpoint(latency_s=0.05, cap=20) as endpoint:
        ...  # endpoint.url speaks chat completions; endpoint.stats() says what it saw

It answers every request after a latency with one fixed reply, and refuses with 429 what comes
above its cap. It counts replies, refusals, and the time during which at least one request was in
it, and how many on average.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
import urllib.request
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

REPLY = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": json.dumps({"summary": "The Elbe is 1,094 kilometres long."}),
                },
            }
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
    }
).encode()
MODELS = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode()
REFUSAL = json.dumps({"error": {"message": "slow down", "type": "rate_limit_error"}}).encode()


@dataclass
class _Server:
    latency_s: float
    cap: int
    retry_after: str
    in_flight: int = 0
    n_answered: int = 0
    n_refused: int = 0
    busy_s: float = 0.0
    load_s: float = 0.0
    most: int = 0
    first_s: float = 0.0
    changed_s: float = field(default_factory=time.monotonic)

    def moved(self, by: int) -> None:
        now_s = time.monotonic()
        span_s = now_s - self.changed_s
        self.busy_s += span_s * (self.in_flight > 0)
        self.load_s += span_s * self.in_flight
        self.changed_s, self.in_flight = now_s, self.in_flight + by
        self.first_s = self.first_s or now_s
        self.most = max(self.most, self.in_flight)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                path, length = line.split()[1], 0
                while (header := await reader.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                await reader.readexactly(length)
                writer.write(await self._answer(path))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: bytes) -> bytes:
        if path == b"/stats":
            return _response(200, json.dumps(self._stats()).encode())
        if path.endswith(b"/models"):
            return _response(200, MODELS)
        if self.cap and self.in_flight >= self.cap:
            self.n_refused += 1
            return _response(429, REFUSAL, self.retry_after)
        self.moved(1)
        await asyncio.sleep(self.latency_s)
        self.moved(-1)
        self.n_answered += 1
        return _response(200, REPLY)

    def _stats(self) -> dict[str, float]:
        whole_s = max(1e-9, self.changed_s - self.first_s)  # from the first request to the last
        return {
            "answered": self.n_answered,
            "refused": self.n_refused,
            "most": self.most,
            "busy_share": self.busy_s / whole_s,
            "mean_in_flight": self.load_s / whole_s,
        }


def _response(status: int, body: bytes, retry_after: str = "") -> bytes:
    more = f"retry-after: {retry_after}\r\n" if retry_after else ""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _run(tell: Connection, server: _Server) -> None:
    running = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024)
    tell.send(running.sockets[0].getsockname()[1])
    await running.serve_forever()


def _main(tell: Connection, latency_s: float, cap: int, retry_after: str) -> None:
    asyncio.run(_run(tell, _Server(latency_s, cap, retry_after)))


class Endpoint:
    """An endpoint that runs while its `with` block does."""

    def __init__(self, *, latency_s: float = 0.0, cap: int = 0, retry_after: str = "") -> None:
        """Describe it; `cap` 0 refuses nothing."""
        context = multiprocessing.get_context("spawn")
        self._told, tell = context.Pipe(duplex=False)
        arguments = (tell, latency_s, cap, retry_after)
        self._process = context.Process(target=_main, args=arguments, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        """Start it."""
        self._process.start()
        self.url = f"http://127.0.0.1:{self._told.recv()}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()

    def stats(self) -> dict[str, Any]:
        """Return what it saw since its first request."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as response:
            found: dict[str, Any] = json.load(response)
        return found
