"""A transport of the real SDK's errors, and calls that fail with them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import openai

from nemoflows.calls import Attempt, Unanswered
from nemoflows.engines.http.transport import Transport
from nemoflows.models import Endpoint

CANARY = "canary: your prompt was 'my secret'"
URL = "http://127.0.0.1:9/v1"


def transport_to(
    url: str = URL, *, name: str = "near", deadline_s: float = 60, key: str = ""
) -> Transport:
    endpoint = Endpoint(dialect="openai", base_url=url, key_env=key)
    broken = (openai.APIConnectionError,)
    return Transport(endpoint, name, deadline_s, connection_errors=broken)


def error(status: int, *, code: str = "", retry_after: str | None = None) -> openai.APIStatusError:
    """Return the SDK's own error for a refusal whose text must go nowhere."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", URL))
    kind = openai.RateLimitError if status == 429 else openai.APIStatusError
    return kind(CANARY, response=response, body={"message": CANARY, "code": code or None})


def raising(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """Return a call that fails with each of `errors` in turn, then answers."""
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "fine"

    return call


def send(
    call: Callable[[], Awaitable[str]], transport: Transport | None = None
) -> tuple[str | Unanswered, list[Attempt]]:
    attempts: list[Attempt] = []
    return asyncio.run((transport or transport_to()).send(call, attempts.append)), attempts
