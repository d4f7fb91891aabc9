"""The line to one remote endpoint: attempts, pauses and a deadline, the same for every SDK.

The SDKs' own retries are off. A transient refusal is tried again within the call's deadline and
every attempt is reported. When a server asks for a pause, everybody on the line pauses once.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from nemoflows.calls import Attempt, Unanswered
from nemoflows.engines.protocol import OnAttempt
from nemoflows.errors import BadModel, NemoflowsError
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.settings import is_loopback

T = TypeVar("T")

RETRY_AFTER_CAP_S = 120.0
"""A server that asks for a longer pause is asked again by the next attempt of the pod."""
MAX_ATTEMPTS = 4
FINAL_CODES = frozenset(
    {"insufficient_quota", "enforced_spend_limit_reached", "contract_spend_limit_reached"}
)
"""Codes of a 429 that no pause mends. Source: openai 3.54 and anthropic 2.12, error codes."""
RETRIED_STATUSES = frozenset({408, 409, 429})
"""Statuses below 500 that pass by themselves; all from 500 on do too."""


class MalformedReplyError(Exception):
    """A reply with status 200 that is not what the dialect promises."""


@dataclass(slots=True)
class Line:
    """One endpoint's address, key and patience, shared by every call to it."""

    endpoint: Endpoint
    name: str
    deadline_s: float
    connection_errors: tuple[type[Exception], ...] = ()
    """The SDK's errors for a connection that broke or never came about."""
    _resume_s: float = field(default=0.0)

    def key(self) -> str:
        """Return the endpoint's key; `none` where it needs none.

        Raises:
            BadModel: The variable that should hold it is not set.
        """
        if not self.endpoint.key_env:
            return "none"
        found = os.environ.get(self.endpoint.key_env, "")
        if not found:
            raise BadModel(
                f"The endpoint {self.name!r} needs a key in {self.endpoint.key_env}, which is "
                "not set. Set it, or name another model; no call was made."
            )
        return found

    @contextmanager
    def own_environment(self) -> Iterator[None]:
        """Hide the SDKs' variables from a client of an endpoint that they are not meant for.

        Organisation, project and custom headers are read by the SDKs when a client is made.
        """
        hidden = {} if self.name in BUILT_IN else _sdk_variables()
        for name in hidden:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(hidden)

    @property
    def trusts_proxies(self) -> bool:
        """Return whether proxies of the environment are used: never on the way to loopback."""
        return not is_loopback(self.endpoint.base_url)

    def where(self) -> str:
        """Return the endpoint as error texts name it."""
        return f"The endpoint {self.name!r} at {self.endpoint.base_url or 'its public address'}"

    async def send(self, call: Callable[[], Awaitable[T]], on_attempt: OnAttempt) -> T | Unanswered:
        """Return what `call` gives, tried again while refusals pass, within one deadline.

        Args:
            call: Makes one attempt; raises what its SDK raises, MalformedReplyError included.
            on_attempt: Told of every attempt, the cancelled one too.
        """
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self._with_retries(call, on_attempt)
        except TimeoutError:
            detail = f"{self.where()} gave no reply within {self.deadline_s:g} s."
            return Unanswered(reason="deadline", detail=detail, transient=True)

    def is_transient(self, error: BaseException) -> bool:
        """Return whether a failure may pass by itself, here or in the pod's next attempt."""
        if _code(error) in FINAL_CODES or isinstance(error, NemoflowsError):
            return False
        if isinstance(error, (*self.connection_errors, MalformedReplyError, ValueError)):
            return True
        if getattr(error, "type", None) == "overloaded_error":
            return True
        status = getattr(error, "status_code", None)
        return status is not None and (status in RETRIED_STATUSES or status >= 500)

    def is_retried(self, error: BaseException) -> bool:
        """Return whether another attempt is worth making here: not after too long a pause."""
        return self.is_transient(error) and (retry_after_s(error) or 0.0) <= RETRY_AFTER_CAP_S

    async def _with_retries(
        self, call: Callable[[], Awaitable[T]], on_attempt: OnAttempt
    ) -> T | Unanswered:
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        retrying = AsyncRetrying(
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=lambda state: self._wait_s(state.outcome, state.attempt_number),
            retry=retry_if_exception(self.is_retried),
            reraise=True,
        )
        number = 0
        try:
            async for attempt in retrying:
                with attempt:
                    number += 1
                    await self._pause()
                    return await _reported(call, number, on_attempt)
        except NemoflowsError:
            raise
        except Exception as error:  # noqa: BLE001  (every foreign error becomes an outcome)
            return self._refused(error, number)
        raise AssertionError("tenacity ends by returning or raising")

    async def _pause(self) -> None:
        left_s = self._resume_s - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def _wait_s(self, outcome: object, number: int) -> float:
        """Return the pause before the next attempt: the server's wish, else growing with jitter."""
        error = outcome.exception() if outcome is not None else None  # type: ignore[attr-defined]
        asked_s = retry_after_s(error) if error is not None else None
        if asked_s is None:
            return first_pause_s() * random.uniform(0, min(16.0, 2**number))
        self._resume_s = max(self._resume_s, time.monotonic() + asked_s)
        return 0.0

    def _refused(self, error: Exception, n_attempts: int) -> Unanswered:
        status, code = getattr(error, "status_code", None), _code(error)
        words = [type(error).__name__, str(status or ""), f"({code})" if code else ""]
        transient = self.is_transient(error)
        reason: Literal["rate_limited", "down", "rejected"] = "down" if transient else "rejected"
        if status == 429 and code not in FINAL_CODES:
            reason = "rate_limited"
        return Unanswered(
            reason=reason,
            detail=f"{self.where()} answered {' '.join(filter(None, words))} at attempt "
            f"{n_attempts} of {MAX_ATTEMPTS}. {_remedy(status, self.endpoint)}".strip(),
            transient=transient,
        )


def _sdk_variables() -> dict[str, str]:
    prefixes = ("OPENAI_", "ANTHROPIC_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def first_pause_s() -> float:
    """Return the unit of growing pauses, in seconds."""
    return 0.5


def retry_after_s(error: BaseException) -> float | None:
    """Return the pause that a refusal asks for; None where it asks for none."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


async def _reported(call: Callable[[], Awaitable[T]], number: int, on_attempt: OnAttempt) -> T:
    started_s, status = time.time(), "cancelled"
    try:
        reply = await call()
        status = "ok"
    except Exception as error:
        status = f"{type(error).__name__} {getattr(error, 'status_code', '')}".strip()
        raise
    finally:
        on_attempt(Attempt(number=number, started_s=started_s, ended_s=time.time(), status=status))
    return reply


def _code(error: BaseException) -> str:
    """Return the provider's own code for an error, never its text."""
    return str(getattr(error, "error_code", None) or getattr(error, "code", None) or "")


def _remedy(status: int | None, endpoint: Endpoint) -> str:
    if status in {401, 403}:
        return f"Check the key in {endpoint.key_env or 'key_env (none is configured)'}."
    return "Check the model's name." if status == 404 else ""
