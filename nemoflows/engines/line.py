"""The line to one remote endpoint: attempts, pauses and a deadline, the same for every SDK.

The SDKs' own retries are off, and so is following redirects: a prompt goes to the address that was
named and to no other. A transient refusal is tried again within the call's deadline and
every attempt is reported. When a server asks for a pause, everybody on the line pauses once. How
many calls are in flight, and how many a minute, is `nemoflows.engines.pace`'s.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from nemoflows.calls import Answered, Attempt, Request, Unanswered, Unusable
from nemoflows.calls.wire import estimated_tokens
from nemoflows.engines.pace import Concurrency, Leaders, Limiter
from nemoflows.engines.protocol import OnAttempt
from nemoflows.errors import BadModel, EndpointDown, NemoflowsError
from nemoflows.models import BASE_URL_ENV, BUILT_IN, Endpoint
from nemoflows.settings import is_loopback
from nemoflows.types import ModelRef, printable

T = TypeVar("T")

RETRY_AFTER_CAP_S = 120.0
"""A server that asks for a longer pause is asked again by the next attempt of the pod."""
MAX_ATTEMPTS = 4
PATIENCE = 0.5
"""Share of its deadline that a call waits for another to write their prefix to the cache."""
FINAL_CODES = frozenset(
    {"insufficient_quota", "enforced_spend_limit_reached", "contract_spend_limit_reached"}
)
"""Codes of a 429 that no pause mends. Source: openai 3.54 and anthropic 2.12, error codes."""
TOO_LONG_CODE = "context_length_exceeded"
TOO_LONG_PHRASES = ("maximum context length", "prompt is too long", "context window")
RETRIED_STATUSES = frozenset({408, 409, 429})
"""Statuses below 500 that pass by themselves; all from 500 on do too."""

FOREIGN_CHARACTERS = 200
"""Longest quote of a provider's own words in a text of ours."""


class _ClosedError(Exception):
    """The line is closed, so this attempt is not made."""


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
    most: int = 64
    """Calls in flight that are never exceeded."""
    concurrency: Concurrency = field(init=False)
    limiter: Limiter = field(init=False)
    leaders: Leaders = field(init=False)
    closed: bool = False
    """Nothing is sent any more: this process is ending."""
    _resume_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.concurrency = Concurrency(self.most)
        self.limiter = Limiter(self.endpoint.rpm, self.endpoint.itpm, self.endpoint.otpm)
        self.leaders = Leaders(self.deadline_s * PATIENCE)

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
        hidden = {} if self._is_the_sdks_own() else _sdk_variables()
        for name in hidden:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(hidden)

    def _is_the_sdks_own(self) -> bool:
        """Return whether the endpoint is a provider's built-in one, where its SDK would ask too."""
        if self.name not in BASE_URL_ENV:
            return False
        url = os.environ.get(BASE_URL_ENV[self.name], "")
        return self.endpoint == BUILT_IN[self.name].model_copy(update={"base_url": url})

    @property
    def trusts_proxies(self) -> bool:
        """Return whether proxies of the environment are used: never on the way to loopback."""
        return not is_loopback(self.endpoint.base_url)

    def where(self) -> str:
        """Return the endpoint as error texts name it."""
        return f"The endpoint {self.name!r} at {self.endpoint.base_url or 'its public address'}"

    @contextmanager
    def preflighting(self) -> Iterator[None]:
        """Raise ours where nothing answers a free question or the key is refused.

        Raises:
            BadModel: The key is refused.
            EndpointDown: Nothing answers, or only a fault does.
        """
        try:
            yield
        except Exception as error:
            status = getattr(error, "status_code", None) or 0
            if isinstance(error, (*self.connection_errors, TimeoutError)) or status >= 500:
                raise EndpointDown(
                    f"{self.where()} did not answer when asked for its models "
                    f"({type(error).__name__}). Start the server or mend the address."
                ) from error
            if status == 401:
                key = self.endpoint.key_env or "key_env (none is configured)"
                raise BadModel(f"{self.where()} refuses the key in {key}.") from error
            raise

    async def send(
        self,
        call: Callable[[], Awaitable[T]],
        on_attempt: OnAttempt,
        request: Request | None = None,
        prefix: str = "",
    ) -> T | Unanswered:
        """Return what `call` gives, tried again while refusals pass, within one deadline.

        Args:
            call: Makes one attempt; raises what its SDK raises, MalformedReplyError included.
            on_attempt: Told of every attempt, the cancelled one too.
            request: What is asked, for the limits of tokens per minute.
            prefix: Key of what the provider caches of it; its first call goes ahead of the others.
        """
        taken = (0.0, 0.0)
        if request is not None:
            taken = (float(estimated_tokens(request)), float(request.limit_tokens))
        try:
            async with asyncio.timeout(self.deadline_s), self.leaders.turn(prefix) as cached:
                outcome = await self._with_retries(call, on_attempt, taken)
                if not isinstance(outcome, Unanswered):
                    cached()
                return outcome
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
        return (
            not self.closed
            and self.is_transient(error)
            and (retry_after_s(error) or 0.0) <= RETRY_AFTER_CAP_S
        )

    async def _with_retries(
        self, call: Callable[[], Awaitable[T]], on_attempt: OnAttempt, taken: tuple[float, float]
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
                    return await self._attempt(call, number, on_attempt, taken)
        except NemoflowsError:
            raise
        except _ClosedError:
            detail = f"{self.where()} was not asked: this process is ending."
            return Unanswered(reason="cancelled", detail=detail, transient=True)
        except Exception as error:  # noqa: BLE001  (every foreign error becomes an outcome)
            return self._refused(error, number)
        raise AssertionError("tenacity ends by returning or raising")

    async def _attempt(
        self,
        call: Callable[[], Awaitable[T]],
        number: int,
        on_attempt: OnAttempt,
        taken: tuple[float, float],
    ) -> T:
        """Make one attempt at the line's pace; what it used replaces what it was estimated at."""
        await self.limiter.take(*taken)
        used = taken
        try:
            async with self.concurrency.slot():
                if self.closed:
                    used = (0.0, 0.0)
                    raise _ClosedError
                try:
                    reply = await _reported(call, number, on_attempt)
                except Exception as error:
                    used = (0.0, 0.0)
                    if _is_refusal_for_now(error):
                        pause_s = min(retry_after_s(error) or 0.0, RETRY_AFTER_CAP_S)
                        self.concurrency.refused(pause_s)
                    raise
                used = _used(reply) or taken
                self.concurrency.answered()
                return reply
        finally:
            self.limiter.settle(taken, used)

    async def _pause(self) -> None:
        """Wait out what a refusal asked of everybody; another may lengthen it meanwhile."""
        while (left_s := self._resume_s - time.monotonic()) > 0:  # noqa: ASYNC110  (a clock)
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
        if too_long := too_long_numbers(error):
            detail = f"{self.where()} finds the request too long for its context ({too_long})."
            return Unanswered(reason="too_long", detail=detail, transient=False)
        transient = self.is_transient(error)
        reason: Literal["rate_limited", "down", "rejected"] = "down" if transient else "rejected"
        if status == 429 and code not in FINAL_CODES:
            reason = "rate_limited"
        return Unanswered(
            reason=reason,
            detail=f"{self.where()} answered {' '.join(filter(None, words))} at attempt "
            f"{n_attempts} of {MAX_ATTEMPTS}. {_remedy(status, code, self.endpoint)}".strip(),
            transient=transient,
        )


def _sdk_variables() -> dict[str, str]:
    prefixes = ("OPENAI_", "ANTHROPIC_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def refuse_variants(model: ModelRef) -> None:
    """Refuse a model of which no served name can say all that was spelled.

    Raises:
        BadModel: The model names a revision or an adapter.
    """
    if model.revision or model.adapter:
        raise BadModel(
            f"{str(model)!r} names a revision or an adapter, which this dialect cannot ask for: "
            "name the model as it is served (a label after # is free)."
        )


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


def foreign(told: object) -> str:
    """Return what a provider says in its own words as our texts may quote it: one short line."""
    return " ".join(printable(str(told)[:FOREIGN_CHARACTERS]).split())


def _code(error: BaseException) -> str:
    """Return what stands where a provider puts its own code for an error.

    A server may put any text there, so it is cut short and made harmless to a terminal.
    """
    return foreign(getattr(error, "error_code", None) or getattr(error, "code", None) or "")


def too_long_numbers(error: BaseException) -> str:
    """Return the numbers of a refusal of too long a prompt; empty where it is another refusal.

    Of the provider's text only its numbers are kept, for it may quote the prompt.

    Source: vLLM 0.32 (`param` is input_tokens), OpenAI (code context_length_exceeded), Anthropic
    ("prompt is too long"); the wording is theirs.
    """
    if getattr(error, "status_code", None) not in {400, 413}:
        return ""
    words = str(getattr(error, "message", ""))
    told = getattr(error, "param", None) == "input_tokens" or _code(error) == TOO_LONG_CODE
    if not told and not any(phrase in words.lower() for phrase in TOO_LONG_PHRASES):
        return ""
    numbers = re.findall(r"[0-9][0-9,]{2,15}", words)[:4]
    return " and ".join(dict.fromkeys(numbers)) + " tokens" if numbers else "no numbers given"


def _is_refusal_for_now(error: BaseException) -> bool:
    """Return whether a failure says that too much was asked at once."""
    if _code(error) in FINAL_CODES:
        return False
    overloaded = getattr(error, "type", None) == "overloaded_error"
    return overloaded or getattr(error, "status_code", None) in {429, 503, 529}


def _used(reply: object) -> tuple[float, float] | None:
    """Return the input and output tokens of a reply as limits count them; None if unknown."""
    usage = reply.reply.usage if isinstance(reply, Answered | Unusable) else None
    if usage is None:
        return None
    return float(usage.input_tokens + usage.cache_write_tokens), float(usage.output_tokens)


def _remedy(status: int | None, code: str, endpoint: Endpoint) -> str:
    if code in FINAL_CODES:
        return "The account's limit of spending is reached: raise it, or name another model."
    if status in {401, 403}:
        return f"Check the key in {endpoint.key_env or 'key_env (none is configured)'}."
    if status is not None and 300 <= status < 400:
        return "It redirects, which is not followed: name the address itself in base_url."
    return "Check the model's name." if status == 404 else ""
