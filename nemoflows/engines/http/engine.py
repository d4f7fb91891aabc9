"""What engines share whose models lie behind one address, asked through an SDK's client."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from nemoflows.engines.base import Engine
from nemoflows.engines.http.errors import sanitised
from nemoflows.engines.http.transport import Transport
from nemoflows.models import Endpoint

PREFLIGHT_S = 10.0
"""Time that a server has to answer a free question."""
ODD_ANSWERS = (ValueError, TypeError, AttributeError)
"""What the SDKs raise, beside errors of their own, where an answer has another shape."""


class RemoteEngine(Engine):
    """Models behind one address; the SDK is imported and its client made at first use."""

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
            with self.transport.preflighting():
                async with asyncio.timeout(PREFLIGHT_S):
                    models = client.models.list()
                    return {sanitised(model.id): self._context(model) async for model in models}
        except errors:
            return {}

    def drain(self) -> None:
        """Send nothing from now on: attempts and retries that wait end unsent."""
        self.transport.closed = True

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None
