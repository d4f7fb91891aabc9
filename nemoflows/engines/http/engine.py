"""What engines share whose models lie behind one address, asked through an SDK's client."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable
from functools import partial
from itertools import chain
from typing import Any

from nemoflows.calls import Outcome, Reply
from nemoflows.engines.base import SENDING, Engine
from nemoflows.engines.http import body, streams
from nemoflows.engines.http.errors import (
    ErrorReplyError,
    ForeignReplyError,
    MalformedReplyError,
    PageReplyError,
    is_page,
    sanitised,
)
from nemoflows.engines.http.transport import Transport
from nemoflows.errors import BadModel
from nemoflows.models import Endpoint
from nemoflows.types import ModelRef

ODD_ANSWERS = (ValueError, TypeError, AttributeError)
"""What the SDKs raise, beside errors of their own, where an answer has another shape."""


class RemoteEngine(Engine):
    """Models behind one address; the SDK is imported and its client made at first use."""

    announces = True

    def __init__(
        self, endpoint: Endpoint, *, name: str, deadline_s: float, concurrency: int = 64
    ) -> None:
        self.transport = Transport(endpoint, name, deadline_s, most=concurrency)
        self._client: Any = None

    @abstractmethod
    def _make_client(self) -> Any:
        """Return the SDK's client, and tell the transport of the SDK's errors.

        Raises:
            BadModel: The key is missing.
        """

    @abstractmethod
    def _context(self, model: Any) -> int | None:
        """Return the context of a model as the server describes it; None where it does not."""

    @abstractmethod
    def _read(self, body: dict[str, Any], came: Reply) -> Outcome:
        """Return the outcome that a body holds, with what is known of it beside the body.

        Raises:
            MalformedReplyError: It is no reply, so that nothing was paid.
        """

    @abstractmethod
    def _joined(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the body that the events of a stream spell.

        Raises:
            MalformedReplyError: They break off.
        """

    async def came(self, asked: Awaitable[Any], notes: list[str]) -> Outcome:
        """Return the outcome of a request that is sent by awaiting the SDK's raw response.

        Raises:
            MalformedReplyError: What came is no reply.
        """
        response = (await asked).http_response
        headers = response.headers
        request_id = headers.get("x-request-id") or headers.get("request-id") or ""
        text = body.as_text(response.content, response.charset_encoding or "")
        came = self.kept(text, notes, request_id)
        try:
            return self.read(came)
        except MalformedReplyError as error:
            told = isinstance(error, ErrorReplyError | ForeignReplyError)
            if not told and is_page(headers.get("content-type", ""), came.raw):
                raise PageReplyError(came.raw) from error
            raise

    def kept(self, raw: str, notes: list[str], request_id: str = "") -> Reply:
        """Return a body as it is recorded: without the endpoint's own key, with nothing read."""
        kept = self.transport.without_key(raw)[: body.MOST_CHARACTERS + 1]
        return Reply(raw=kept, request_id=self.transport.without_key(request_id), notes=notes)

    def read(self, came: Reply) -> Outcome:
        """Return the outcome that a body holds: whatever it is, once paid it is not asked again.

        Raises:
            MalformedReplyError: It is no reply, so that nothing was paid.
        """
        if len(came.raw) > body.MOST_CHARACTERS:
            return body.unreadable(came, f"it is longer than {body.MOST_CHARACTERS:,} characters")
        try:
            return self._read(self._parsed(came.raw), came)
        except MalformedReplyError:
            raise
        except Exception as error:  # noqa: BLE001  (a paid body must not raise, whatever is in it)
            return body.unreadable(came, type(error).__name__)

    def _parsed(self, raw: str) -> dict[str, Any]:
        """Return a body's object, also where the server streamed it without being asked."""
        try:
            return body.parsed(raw)
        except MalformedReplyError:
            if told := streams.events(raw):
                return self._joined(told)
            raise

    def connect(self) -> Any:
        """Return the SDK's client, made at first use.

        Raises:
            BadModel: The key is missing.
        """
        if self._client is None:
            self._client = self._make_client()
        return self._client

    async def served(self) -> dict[str, int | None]:
        """Return the models that the endpoint lists, each with its context in tokens if told.

        A list that cannot be had is empty: some servers have none, so the first call will tell.

        Raises:
            BadModel: The key is missing or refused.
            EndpointDown: Nothing answers.
        """
        client = self.connect()
        errors: tuple[type[Exception], ...] = (*self.transport.sdk_errors, *ODD_ANSWERS)
        try:
            return await self.transport.ask_free(lambda: self._list(client))
        except errors:
            return {}

    async def _list(self, client: Any) -> dict[str, int | None]:
        models = client.models.list()
        return {self._named(model.id): self._context(model) async for model in models}

    def _named(self, told: object) -> str:
        return sanitised(self.transport.without_key(str(told)))

    def drain(self) -> None:
        """Send nothing from now on: attempts and retries that wait end unsent."""
        self.transport.ending.has_come = True

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def announcing(http: Any) -> Any:
    """Return an SDK's HTTP client (aiohttp's) that has requests announced before they leave.

    That is right before the body is written: what waits for a connection is not sent.
    """
    for transport in filter(None, {http._transport, *http._mounts.values()}):  # noqa: SLF001
        transport.client = partial(_session, transport)
    http.send = partial(_sent, http.send)
    return http


async def _sent(send: Any, request: Any, *, stream: bool = False, **how: Any) -> Any:
    """Send a request, and read of its reply's body no more than is kept."""
    response = await send(request, stream=True, **how)
    if not stream:
        raw = bytearray()
        try:
            async for part in response.aiter_raw():
                raw += part
                if len(raw) > body.MOST_BYTES:
                    break
        finally:
            await response.aclose()
        response._content = _unpacked(response, bytes(raw))  # noqa: SLF001
    return response


def _unpacked(response: Any, raw: bytes) -> bytes:
    """Return a body as far as it is kept; one that is not packed as it says, as it came."""
    decoder, content = response._get_content_decoder(), bytearray()  # noqa: SLF001
    try:  # it comes in pieces, the next when it is asked for
        for piece in chain(decoder.decode(raw), decoder.flush()):
            content += piece
            if len(content) > body.MOST_BYTES:
                break
    except Exception:  # noqa: BLE001  (of any packing: what is paid is kept, whatever it is)
        return body.unzipped(raw)
    return body.unzipped(bytes(content))


def _session(transport: Any) -> Any:
    """Return the session that a transport makes by itself, with our ear at its connections."""
    import aiohttp

    transport.client = None
    session = transport.get_client()
    config = aiohttp.TraceConfig()
    config.on_request_chunk_sent.append(_sending)  # awaited before the chunk is written
    config.freeze()
    session.trace_configs.append(config)
    return session


async def _sending(*_: object) -> None:
    if announce := SENDING.get():
        await announce()


def refuse_variants(model: ModelRef) -> None:
    """Refuse a model of which no served name can say all that was spelled.

    Raises:
        BadModel: The model names a revision or an adapter.
    """
    if model.revision or model.lora:
        raise BadModel(
            f"{str(model)!r} names a revision or an adapter, which this dialect cannot ask for: "
            "name the model as it is served (a label after # is free)."
        )


def forget_headers(client: Any) -> None:
    """Take back the headers that an SDK's client took from its variable.

    No argument keeps it from adding them. A client that holds them elsewhere is an error here.
    """
    client._custom_headers.clear()  # noqa: SLF001
