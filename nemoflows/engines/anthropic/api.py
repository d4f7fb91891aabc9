"""The Message Batches API through the SDK: create, list, look, read; rows as outcomes.

Every exchange but `create` may be made again at no cost, by the transport's rules. After a `create`
that broke off nobody knows whether there is a batch now, which is an outcome of its own here.

Results are read from the endpoint's own address and not from the one that the API names, which
may be another host: a key goes to its own endpoint alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from nemoflows.calls import Attempt, Outcome, Unanswered
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.http import body
from nemoflows.engines.http.errors import MalformedReplyError, too_long_numbers
from nemoflows.errors import EndpointDown

if TYPE_CHECKING:
    import anthropic

T = TypeVar("T")

MOST_ROWS = 100_000
"""Source: platform.claude.com, Create a Message Batch, November 2026."""
MOST_BYTES = 240_000_000
"""Bytes of requests in one batch: the API takes 256 MB, and escapes and braces come on top."""
PAGE = 100
"""Batches per page of the list."""
PASSING_ERRORS = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})
"""Types of a row's error that may pass by themselves. Source: anthropic 2.12, ErrorType."""


class CreationInDoubtError(EndpointDown):
    """A batch was asked for and the answer never came: it may exist."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A batch as the API describes it."""

    id: str
    created_s: float
    n_rows: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A line of results."""

    key: str
    result: dict[str, Any]


class Batches:
    """The batches of one workspace: whose key it is."""

    def __init__(self, api: Anthropic) -> None:
        self.api, self.transport = api, api.transport

    async def newest_s(self) -> float | Unanswered:
        """Return when the newest batch was created, by the API's clock; 0 where there is none."""

        async def call() -> float:
            async for listed in self._listed(limit=1):
                return listed.created_s
            return 0.0

        return await self.transport.send(call, _untold)

    async def create(self, requests: Sequence[dict[str, Any]]) -> str | Unanswered:
        """Create a batch and return its id.

        Raises:
            CreationInDoubtError: No answer came, or one that leaves open what was done.
        """
        is_cut = False

        async def call() -> str:
            nonlocal is_cut
            try:
                made = await self._client.messages.batches.create(requests=requests)  # type: ignore[arg-type]
                return _listed(made).id
            except asyncio.CancelledError:
                is_cut = True
                raise
            except Exception as error:
                status = getattr(error, "status_code", None) or 0
                if 400 <= status < 500 and status not in {408, 499}:
                    raise
                raise self._perhaps(type(error).__name__) from error

        made = await self.transport.send(call, _untold)
        if is_cut:  # whatever an earlier attempt was answered
            raise self._perhaps("deadline")
        return made

    async def look(self, batch: str) -> Listed:
        """Return a batch as it is now."""
        return _listed(await self._client.messages.batches.retrieve(batch))

    async def created_since(self, newest_s: float, n_rows: int) -> list[Listed]:
        """Return the batches of so many requests that are no older than a time of the API's."""
        found = []
        async for listed in self._listed(limit=PAGE):
            if listed.created_s < newest_s:
                break  # the newest come first
            if listed.n_rows == n_rows:
                found.append(listed)
        return found

    async def first_key(self, batch: str) -> str:
        """Return the key of one request of a batch that has ended; empty where there is none."""
        import anthropic

        try:
            async with aclosing(self.rows(batch)) as rows:
                async for row in rows:
                    return row.key
        except anthropic.NotFoundError:  # removed since it was listed
            pass
        return ""

    async def rows(self, batch: str) -> AsyncGenerator[Row, None]:
        """Give the results of a batch that has ended, as they are read, in any order."""
        import httpx2
        from anthropic._decoders.jsonl import AsyncJSONLDecoder

        lines = await self._client.get(
            f"/v1/messages/batches/{quote(batch, safe='')}/results",
            cast_to=AsyncJSONLDecoder[object],  # as they came
            options={"headers": {"Accept": "application/binary"}},
            stream=True,
        )
        try:
            async for line in lines:
                key = body.fields(line).get("custom_id")
                if not isinstance(key, str):
                    raise MalformedReplyError("results with a line of another shape")
                yield Row(key, body.fields(body.fields(line).get("result")))
        except httpx2.HTTPError as error:  # of a body that breaks off, which the SDK lets through
            raise MalformedReplyError(f"results that broke off ({type(error).__name__})") from error
        finally:
            await lines.close()

    async def _listed(self, *, limit: int) -> AsyncIterator[Listed]:
        """Give the batches, newest first."""
        page = await _page(self._client.messages.batches.list(limit=limit))
        while True:
            for batch in page.data:
                yield _listed(batch)
            if not page.has_next_page():
                return
            page = await _page(page.get_next_page())

    @property
    def _client(self) -> anthropic.AsyncAnthropic:
        client: anthropic.AsyncAnthropic = self.api.connect()
        return client

    def _perhaps(self, what: str) -> CreationInDoubtError:
        return CreationInDoubtError(
            f"{self.transport.where()} broke off while creating a batch: {what}."
        )


def in_parts(asked: Sequence[T], sent: Callable[[T], object]) -> Iterator[list[T]]:
    """Give requests in parts that a batch takes, in order.

    Args:
        asked: What is to be sent.
        sent: From it to what goes into the batch, as JSON.
    """
    part: list[T] = []
    n_bytes = 0
    for one in asked:
        size = len(json.dumps(sent(one)))
        if part and (len(part) >= MOST_ROWS or n_bytes + size > MOST_BYTES):
            yield part
            part, n_bytes = [], 0
        part.append(one)
        n_bytes += size
    if part:
        yield part


def read_row(row: Row, notes: list[str], batch: str, api: Anthropic) -> tuple[str, Outcome | None]:
    """Return how a row ended, as attempts tell it, and its outcome; None is worth another try."""
    kind = body.words(row.result.get("type"))
    if kind == "succeeded":
        return "ok", _message(row, notes, api)
    if kind == "errored":
        error = body.fields(body.fields(row.result.get("error")).get("error"))
        name = body.words(error.get("type")) or "error"
        again = name in PASSING_ERRORS
        return f"errored {name}", None if again else _rejected(name, error, batch)
    if kind == "canceled":
        detail = (
            f"Batch {batch} was cancelled before this request's turn; it was not billed. Run the "
            "same command again to send it anew."
        )
        return kind, Unanswered(reason="cancelled", detail=detail, transient=False)
    return kind or "unknown", None


def _message(row: Row, notes: list[str], api: Anthropic) -> Outcome:
    """Return the outcome of a row that was billed, whatever it holds."""
    came = api.kept(json.dumps(row.result.get("message")), notes)
    try:
        return api.read(came)
    except MalformedReplyError as error:
        return body.unreadable(came, str(error))


def _rejected(name: str, error: dict[str, Any], batch: str) -> Unanswered:
    told = SimpleNamespace(status_code=400, message=body.words(error.get("message")))
    if too_long := too_long_numbers(told):  # type: ignore[arg-type]
        detail = f"Batch {batch}: the request is too long for its model ({too_long})."
        return Unanswered(reason="too_long", detail=detail, transient=False)
    detail = f"Batch {batch} refused this request ({name}); it was not billed."
    return Unanswered(reason="rejected", detail=detail, transient=False)


async def _page(asked: Awaitable[Any]) -> Any:
    """Return a page of the list; one of another shape is not an empty one."""
    try:
        page = await asked
    except (AttributeError, TypeError) as error:  # from within the SDK
        raise MalformedReplyError("status 200 with no page") from error
    if not isinstance(getattr(page, "data", None), list):
        raise MalformedReplyError("status 200 with a page of another shape")
    return page


def _listed(batch: Any) -> Listed:
    """Return the SDK's batch as a value.

    Raises:
        MalformedReplyError: It is no batch.
    """
    counts, created = getattr(batch, "request_counts", None), getattr(batch, "created_at", None)
    known = isinstance(getattr(batch, "id", None), str) and isinstance(created, datetime)
    if not known or counts is None or created is None:
        raise MalformedReplyError(f"status 200 with {type(batch).__name__} of another shape")
    n = (counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired)
    return Listed(
        batch.id,
        created.timestamp(),
        sum(one or 0 for one in n),
        batch.processing_status == "ended",
    )


def _untold(attempt: Attempt) -> None:
    """Tell nobody: an exchange about a batch is no attempt at a reply."""
