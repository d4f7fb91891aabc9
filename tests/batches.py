"""A server of Message Batches on loopback, and a process that asks through it and can be killed.

    python -m tests.batches URL ROOT N

asks N requests through a client with its journal at ROOT and prints what came of them as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from typing_extensions import override

from nemoflows.calls import Request
from nemoflows.engines.anthropic.batches import AnthropicBatch
from nemoflows.engines.anthropic.watch import Pauses
from nemoflows.engines.http import outages
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.storage.opening import open_records
from tests.loopback import ModelServer, _Handler, message
from tests.support import request

QUICK = Pauses(quiet_s=0.05, gather_s=5, settle_s=0.05, first_s=0.02, longest_s=0.1, tell_s=0.1)
START = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class Batch:
    """A batch as the server keeps it: fates by custom id."""

    id: str
    n: int
    requests: list[dict[str, Any]]
    fates: dict[str, str]
    polls_left: int
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        return self.polls_left <= 0

    def count(self, fate: str) -> int:
        found = [f.partition(":")[0] or "succeeded" for f in self.fates.values()]
        return found.count(fate) if self.ended else 0

    def told(self, url: str) -> dict[str, Any]:
        created = START + timedelta(minutes=self.n)
        kinds = ("succeeded", "errored", "expired", "canceled")
        counts = {kind: self.count(kind) for kind in kinds}
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if self.ended else "in_progress",
            "created_at": created.isoformat(),
            "expires_at": (created + timedelta(hours=24)).isoformat(),
            "request_counts": counts | {"processing": 0 if self.ended else len(self.fates)},
            "results_url": f"{url}/elsewhere" if self.ended else None,
        }


Hook = Callable[["_BatchHandler"], bool | None]
"""Called at a point of an exchange; True says that it answered, or broke the connection."""


@dataclass
class _State:
    batches: list[Batch] = field(default_factory=list)
    fates: deque[str] = field(default_factory=deque)
    hooks: dict[str, Hook] = field(default_factory=dict)
    get_faults: deque[str] = field(default_factory=deque)
    n_polls: int = 1
    lists: int = 0
    looks: list[str] = field(default_factory=list)


class BatchServer(ModelServer):
    """A model server with batches.

    `fates` are given to rows as they arrive (`expired`, `errored:overloaded_error`, ...), `hooks`
    are called once at the points `list`, `create`, `created`, `poll` and `results`.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.state = _State()
        outer = self

        class Handler(_BatchHandler):
            server_state = outer
            batch_server = outer

        self._server.RequestHandlerClass = Handler

    @property
    def base(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def batches(self) -> list[Batch]:
        return self.state.batches

    @property
    def paid_rows(self) -> int:
        """Rows that the provider bills: those that succeed, whoever reads them."""
        fates = [fate for batch in self.batches for fate in batch.fates.values()]
        return fates.count("")

    def add(self, requests: list[dict[str, Any]], *, n_polls: int | None = None) -> Batch:
        n = len(self.batches) + 1
        fates = self.state.fates
        taken = {r["custom_id"]: fates.popleft() if fates else "" for r in requests}
        left = self.state.n_polls if n_polls is None else n_polls
        batch = Batch(f"msgbatch_{n}", n, requests, taken, left)
        self.batches.append(batch)
        return batch

    def add_foreign(self, n_rows: int, *, n_polls: int = 0) -> Batch:
        """Add somebody else's batch of the workspace."""
        params = {"model": "tiny", "messages": [], "max_tokens": 1}
        rows = [{"custom_id": f"other-{n}", "params": params} for n in range(n_rows)]
        return self.add(rows, n_polls=n_polls)


class _BatchHandler(_Handler):
    batch_server: BatchServer

    @override
    def do_GET(self) -> None:
        state = self.batch_server.state
        path, _, query = self.path.partition("?")
        found = re.fullmatch(r"/v1/messages/batches(?:/([^/]+))?(/results)?", path)
        if not found:
            super().do_GET()
            return
        self.batch_server.authorizations.append(self.headers.get("authorization", ""))
        if state.get_faults and self._fault(state.get_faults.popleft()):
            return
        if found[1] is None:
            if not self._hook("list"):
                self._list(query)
            return
        batch = next((b for b in state.batches if b.id == found[1]), None)
        if batch is None:
            self._json(404, {"type": "error", "error": {"type": "not_found_error", "message": ""}})
        elif found[2]:
            self._results(batch)
        else:
            self._look(batch)

    @override
    def do_POST(self) -> None:
        server = self.batch_server
        if self.path.endswith("/cancel"):
            batch = next(b for b in server.batches if b.id == self.path.split("/")[-2])
            batch.cancelled = True
            self._json(200, batch.told(server.url))
        elif self.path.endswith("/messages/batches"):
            self._create()
        else:
            super().do_POST()

    def _create(self) -> None:
        server = self.batch_server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.authorizations.append(self.headers.get("authorization", ""))
        if self._hook("create") or (server.faults and self._fault(server.faults.popleft())):
            return
        names = [row["custom_id"] for row in body["requests"]]
        if len(set(names)) < len(names) or not all(map(_is_name, names)):
            self._json(400, {"type": "error", "error": {"type": "invalid_request_error"}})
            return
        batch = server.add(body["requests"])
        if not self._hook("created"):
            self._json(200, batch.told(server.url))

    def _look(self, batch: Batch) -> None:
        self.batch_server.state.looks.append(batch.id)
        if self._hook("poll"):
            return
        batch.polls_left -= 1
        self._json(200, batch.told(self.batch_server.url))

    def _list(self, query: str) -> None:
        """List a page, newest first; looking at a list brings batches nearer to their end too."""
        self.batch_server.state.lists += 1
        known = dict(re.findall(r"(\w+)=([^&]+)", query))
        rows = list(reversed(self.batch_server.batches))
        if "after_id" in known:
            place = next(n for n, batch in enumerate(rows) if batch.id == known["after_id"])
            rows = rows[place + 1 :]
        page = rows[: int(known.get("limit", 20))]
        told = [batch.told(self.batch_server.url) for batch in page]
        for batch in page:
            batch.polls_left -= 1
        ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {}
        more = {"has_more": len(page) < len(rows), **ends}
        self._json(200, {"data": told, **more})

    def _results(self, batch: Batch) -> None:
        """Send the results, last request first; a hook is called half way."""
        lines = [_line(row, batch.fates[row["custom_id"]]) for row in reversed(batch.requests)]
        length = sum(map(len, lines))
        half = max(1, len(lines) // 2)
        self._bytes(200, b"".join(lines[:half]), "application/binary", length=length)
        if not self._hook("results"):
            self.wfile.write(b"".join(lines[half:]))

    def _hook(self, point: str) -> bool:
        hook = self.batch_server.state.hooks.pop(point, None)
        return bool(hook and hook(self))


def _is_name(name: str) -> bool:
    """Return whether the API takes a custom id. Source: platform.claude.com, November 2026."""
    return re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) is not None


def _line(row: dict[str, Any], fate: str) -> bytes:
    kind, _, detail = fate.partition(":")
    result: dict[str, Any] = {"type": kind or "succeeded"}
    if kind == "errored":
        words = "prompt is too long: 215000 tokens > 200000" if detail == "too_long" else "secret"
        name = "invalid_request_error" if detail == "too_long" else detail
        result["error"] = {"type": "error", "error": {"type": name, "message": words}}
    elif not kind:
        text = "re " + str(row["params"]["messages"] and row["params"]["messages"][0]["content"])
        result["message"] = message(row["params"], {"chat": text}, finish="")
    elif kind == "shape":
        result = {"type": "succeeded", "message": {"id": "m"}}
    return json.dumps({"custom_id": row["custom_id"], "result": result}).encode() + b"\n"


def batch_client(
    url: str, root: str, *, pauses: Pauses = QUICK, deadline_s: float = 60
) -> LLMClient:
    """Return a client whose endpoint `claude` takes batches."""
    far = Endpoint(dialect="anthropic-batch", base_url=url, price_key="anthropic")
    settings = Settings(run="batches", endpoints={"claude": far})
    notes = open_records(root) if root else None
    engine = AnthropicBatch(far, name="claude", deadline_s=deadline_s, notes=notes, pauses=pauses)
    return LLMClient(
        Engines(settings, given={"claude": engine}), Journal(root, run="batches"), settings=settings
    )


def asks(n: int, *, model: str = "claude:tiny") -> list[CallSpec[str]]:
    return [CallSpec(request(f"question {i}", model=model), lambda r, _: r.text) for i in range(n)]


def values(results: list[Success[str] | Failure]) -> list[str]:
    return [found.value if isinstance(found, Success) else found.reason for found in results]


async def ask_all(llm: LLMClient, wanted: list[CallSpec[str]]) -> list[Success[str] | Failure]:
    try:
        return await llm.batch(wanted, max_failed=1.0)
    finally:
        await llm.aclose()


def run(
    server: BatchServer, root: str, wanted: list[CallSpec[str]], **more: Any
) -> tuple[list[Success[str] | Failure], LLMClient]:
    llm = batch_client(server.base, root, **more)
    return asyncio.run(ask_all(llm, wanted)), llm


def expected(n: int) -> list[str]:
    return [f"re question {i}" for i in range(n)]


def notes_of(root: str, kind: str) -> list[bytes]:
    records = open_records(root)
    return [records.read(name) or b"" for name in records.names(f"batches/claude/{kind}")]


def keys_of(requests: list[Request]) -> list[str]:
    return [one.key(wire_version=AnthropicBatch.wire_version) for one in requests]


def main() -> None:
    """Ask, and print the values and how many calls were paid by this process."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    outages.first_pause_s = lambda: 0.01
    url, root, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    llm = batch_client(url, root)
    found = values(asyncio.run(ask_all(llm, asks(n))))
    paid = sum(not spent.replayed for spent in llm.spent)
    print(json.dumps({"values": found, "paid": paid, "in_doubt": len(llm.in_doubt())}))


if __name__ == "__main__":
    main()
