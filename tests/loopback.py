"""A model server on loopback that speaks both dialects, for tests over real sockets.

By default it answers each purpose sensibly from the prompt it gets; `faults` are served first,
one per request. It counts and keeps what it was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_OVERLOADED = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
_BODIES = {
    "text": (b"hello", "text/plain"),
    "malformed": (b'{"id": ', "application/json"),
    "empty": (b"", "application/json"),
    "shape": (b'{"hello": 1}', "application/json"),
    "error200": (_OVERLOADED, "application/json"),
    "stream": (b"event: error\ndata: " + _OVERLOADED + b"\n\n", "text/event-stream"),
}
"""Faults that are a reply with status 200."""
_DATA = re.compile(r"<(data-*) ([^>\n]*)>\n(.*?)\n</\1 \2>", re.DOTALL)
_KINDS = {"P": "passage", "F": "finding", "Q": "query"}
"""Of numbered parts, by the letter of their mark."""


class ModelServer:
    """A server that runs while its `with` block does."""

    def __init__(
        self,
        *,
        models: tuple[str, ...] = ("tiny",),
        latency_s: float = 0.0,
        host: str = "127.0.0.1",
    ) -> None:
        self.models, self.latency_s = models, latency_s
        self.faults: deque[str] = deque()
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.replies: dict[str, str] = {}
        """Purpose → reply text, instead of the default one."""
        self.script: Callable[[str, dict[str, Any]], str] = lambda _, __: ""
        """Told purpose and request, returns the reply's text; empty for the default one."""
        self.extra_message: dict[str, Any] = {}
        """More fields of a chat completion's message."""
        self.refuses: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        """From a request to the error that it is refused with; None takes it."""
        self.context_tokens = 32_768
        self.is_away = False
        self.on_request: Callable[[str], None] = lambda _: None
        """Told the id of every request that came in whole; the same body has the same id."""
        self.on_answered: Callable[[str], None] = lambda _: None
        """Told the id of every request whose reply was sent."""
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._handler = Handler
        self._server = _Server((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def leave(self, seconds: float) -> None:
        """Be gone for a time, as a server that is started again: connections are refused."""
        place = self._server.server_address

        def away() -> None:
            self._server.shutdown()
            self._server.server_close()
            time.sleep(seconds)
            self._server = _Server(place, self._handler)
            self.is_away = False
            self._server.serve_forever()

        self.is_away = True
        threading.Thread(target=away, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def settle(self) -> None:
        """Wait until what was sent by clients that are gone now is served."""
        time.sleep(0.3)  # of what still waits to be accepted nobody knows
        while self._server.n_open:
            time.sleep(0.01)

    def purposes(self) -> list[str]:
        return [purpose_of(body) for body in self.requests]

    def endpoints(self, name: str = "local", **more: object) -> str:
        """Return a value for NEMOFLOWS_ENDPOINTS."""
        return json.dumps({name: {"dialect": "openai", "base_url": self.url, **more}})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    n_open = 0
    """Connections that are served."""
    _lock = threading.Lock()
    request_queue_size = 1024
    """The default of 5 refuses some of 64 connections that open at once on a busy machine."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self._count(1)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._count(-1)

    def _count(self, n: int) -> None:
        with self._lock:
            self.n_open += n

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up or are killed are what these tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server_state: ModelServer
    request_id = ""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection |= self.server_state.is_away  # no connection outlives its server

    def do_GET(self) -> None:
        if "/models/" in self.path:
            self._model(self.path.rpartition("/")[2])
            return
        more = {"object": "model", "max_model_len": self.server_state.context_tokens}
        rows = [{"id": name, **more} for name in self.server_state.models]
        self._json(200, {"object": "list", "data": rows})

    def _model(self, name: str) -> None:
        if name in self.server_state.models:
            known = {"max_input_tokens": self.server_state.context_tokens, "created_at": "x"}
            self._json(200, {"id": name, "type": "model", "display_name": name, **known})
        else:
            self._json(404, {"type": "error", "error": {"type": "not_found_error", "message": ""}})

    def do_POST(self) -> None:
        state = self.server_state
        if state.is_away:
            return
        data = self.rfile.read(int(self.headers["content-length"]))
        body, self.request_id = json.loads(data), hashlib.sha256(data).hexdigest()[:16]
        state.requests.append(body)
        state.on_request(self.request_id)
        state.authorizations.append(self.headers.get("authorization", ""))
        if state.latency_s:
            time.sleep(state.latency_s)
        if refused := state.refuses(body):
            self._json(400, {"type": "error", "error": refused})
            return
        fault = state.faults.popleft() if state.faults else ""
        if not self._fault(fault):
            answer = message if self.path.endswith("/messages") else completion
            purpose = purpose_of(body)
            scripted = state.script(purpose, body)
            replies = state.replies | ({purpose: scripted} if scripted else {})
            reply = answer(body, replies, finish="" if fault.startswith("sse") else fault)
            for choice in reply.get("choices", []):
                choice["message"] |= state.extra_message
            if fault.partition(":")[0] == "sse":
                self._bytes(200, streamed(reply, cut=fault == "sse:cut"), "text/event-stream")
            else:
                self._json(200, reply)
            state.on_answered(self.request_id)

    def _fault(self, fault: str) -> bool:
        """Serve a fault; False where it is none, but how a reply ends."""
        kind, _, detail = fault.partition(":")
        if kind in _BODIES:
            self._bytes(200, *_BODIES[kind])
        elif kind in {"body", "503json", "page"}:
            status = 503 if kind == "503json" else 200
            said = "text/html" if kind == "page" else "application/json"
            self._bytes(status, detail.encode(), said)
        elif kind in {"reset", "close"}:
            self._break(reset=kind == "reset")
        elif kind in {"cut", "reset_body"}:
            self._bytes(200, b'{"id": "x", "choi', "application/json", length=1000)
            self._break(reset=kind == "reset_body")
        elif kind == "drip":
            self._drip(float(detail))
        elif kind == "hang":
            time.sleep(float(detail or 30))
            self.close_connection = True
        else:
            return self._refuse(kind, detail)
        return True

    def _refuse(self, kind: str, detail: str) -> bool:
        if kind == "html":
            self._bytes(int(detail), b"<html><h1>Bad gateway</h1></html>", "text/html")
        elif kind == "too_long":
            words = f"prompt is too long: {detail} tokens > 200000 maximum"
            told = {"message": words, "type": "invalid_request_error"}
            self._json(400, {"type": "error", "error": told})
        elif kind.isdigit():
            code = {"code": detail or None, "details": {"error_code": detail or None}}
            error = {"type": "error", "error": {"message": "no", "type": "error", **code}}
            self._json(int(kind), error, retry_after=detail if detail.isdigit() else "")
        return kind in {"html", "too_long"} or kind.isdigit()

    def _break(self, *, reset: bool) -> None:
        """End the connection: with an RST, or with a FIN."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR) if not reset else self.connection.close()

    def _drip(self, seconds: float) -> None:
        """Send a body byte by byte, each well within any timeout of one read."""
        self._bytes(200, b"", "application/json", length=1000)
        with suppress(OSError):  # the client has hung up
            for _ in range(int(seconds / 0.05)):
                self.wfile.write(b" ")
                time.sleep(0.05)
        self.close_connection = True

    def _json(self, status: int, body: object, *, retry_after: str = "") -> None:
        self._bytes(status, json.dumps(body).encode(), "application/json", retry_after=retry_after)

    def _bytes(
        self,
        status: int,
        body: bytes,
        kind: str,
        *,
        length: int | None = None,
        retry_after: str = "",
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.send_header("x-request-id", self.request_id)
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)


def completion(body: dict[str, Any], replies: dict[str, str], *, finish: str) -> dict[str, Any]:
    """Return a chat completion for a request of the library's."""
    purpose = purpose_of(body)
    text = replies.get(purpose) or json.dumps(_sensible(purpose, body))
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "system_fingerprint": "fp1",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish or "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 30,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


def message(body: dict[str, Any], replies: dict[str, str], *, finish: str) -> dict[str, Any]:
    """Return an Anthropic message; it begins with an empty thinking block, as real ones may."""
    purpose = purpose_of(body)
    text = replies.get(purpose) or json.dumps(_sensible(purpose, body))
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "stop_reason": finish or "end_turn",
        "stop_sequence": None,
        "content": [
            {"type": "thinking", "thinking": "", "signature": "s1"},
            {"type": "text", "text": text},
        ],
        "usage": {
            "input_tokens": 100,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 10,
            "output_tokens": 30,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    }


def streamed(reply: dict[str, Any], *, cut: bool = False) -> bytes:
    """Return a reply of either dialect as the events of a stream, which may break off."""
    events = _chunks(reply) if "choices" in reply else _events(reply)
    lines = [f"data: {json.dumps(event)}" for event in (events[:-2] if cut else events)]
    return "\n\n".join(lines).encode()


def _chunks(reply: dict[str, Any]) -> list[dict[str, Any]]:
    text, ends = reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"]
    head = {name: reply[name] for name in ("id", "created", "model")}
    deltas = [{"role": "assistant", "content": ""}, {"content": text[:4]}, {"content": text[4:]}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last = {"index": 0, "delta": {}, "finish_reason": ends}
    chunks = [head | {"choices": [choice]} for choice in [*choices, last]]
    return [*chunks, head | {"choices": [], "usage": reply["usage"]}]


def _events(reply: dict[str, Any]) -> list[dict[str, Any]]:
    text, usage = reply["content"][-1]["text"], reply["usage"]
    begun = reply | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    parts = [{"type": "text_delta", "text": text[:4]}, {"type": "text_delta", "text": text[4:]}]
    block = {"index": 0, "type": "content_block_start", "content_block": {"type": "text"}}
    return [
        {"type": "message_start", "message": begun},
        block,
        *({"type": "content_block_delta", "index": 0, "delta": part} for part in parts),
        {
            "type": "message_delta",
            "delta": {"stop_reason": reply["stop_reason"]},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    ]


_PURPOSES = {
    "edits": "propose",
    "function": "propose",
    "steps": "plan_change",
    "verdict": "review",
    "questions": "plan",
    "quotes": "extract",
    "query": "rewrite",
    "summary": "summarise",
    "sentences": "synthesise",
    "record": "fields",
}


_OF_CHANGES = {
    "plan_change": {"summary": "Do it.", "files": [], "steps": []},
    "review": {"verdict": "accept", "comments": []},
}


def purpose_of(body: dict[str, Any]) -> str:
    """Return what a request is for, told by the schema it asks for."""
    names = _schema(body).get("properties", {})
    found = next((purpose for name, purpose in _PURPOSES.items() if name in names), "chat")
    if not names and any(kind == "file" for kind, _, _ in data_parts(body)):
        found = "propose"  # one function is asked for as text
    tried = found == "propose" and any(kind == "change" for kind, _, _ in data_parts(body))
    return "repair" if tried else found


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that a request of either dialect asks for; empty where it asks for none."""
    openai = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    claude = body.get("output_config", {}).get("format", {}).get("schema", {})
    return {**openai, **claude}


def _is_of_choices(schema: dict[str, Any]) -> bool:
    inner = schema.get("properties", {}).values()
    return "enum" in schema or (bool(inner) and all(map(_is_of_choices, inner)))


def _instance(schema: dict[str, Any]) -> Any:
    """Return the first value that fits a schema of objects and choices."""
    if "enum" in schema:
        return schema["enum"][0]
    return {name: _instance(inner) for name, inner in schema["properties"].items()}


def data_parts(body: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (kind, id, text) of every delimited part of a prompt."""
    text = "\n\n".join(_text(turn["content"]) for turn in body["messages"])
    return [(_kind(found[2]), found[2], found[3]) for found in _DATA.finditer(text)]


def _kind(mark: str) -> str:
    if mark.isdigit():
        return "evidence"
    if re.fullmatch(r"[PFQ]\d+", mark):
        return _KINDS[mark[0]]
    return "file" if re.search(r"[./]", mark) else mark


def _text(content: str | list[dict[str, str]]) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(block.get("text", "") for block in content)


def _sensible(purpose: str, body: dict[str, Any]) -> Any:
    parts = data_parts(body)
    question = next((text for kind, _, text in parts if kind == "question"), "")
    match purpose:
        case "plan":
            return {"questions": [question]}
        case "extract":
            passages = [(mark, text) for kind, mark, text in parts if kind == "passage"]
            return {"quotes": [_last_mark(text) for _, text in passages[:2]]}
        case "rewrite":
            return {"query": ""}
        case "summarise":
            return {"summary": "A short summary."}
        case "synthesise":
            n = sum(kind == "evidence" for kind, _, _ in parts)
            return {"sentences": [{"text": "It is so.", "citations": list(range(1, n + 1))[:2]}]}
        case _:
            schema = _schema(body)
            other = _instance(schema) if _is_of_choices(schema) else {"text": "hello"}
            return _OF_CHANGES.get(purpose, other)


def _last_mark(text: str) -> str:
    marks: list[str] = re.findall(r"^\[(P\d+\.\d+)\]", text, re.MULTILINE)
    return marks[-1]
