"""The transport to one remote endpoint: attempts, pauses and a deadline, the same for every SDK.

The SDKs' own retries are off, and so is following redirects: a prompt goes to the address that was
named and to no other. A transient refusal is tried again within the call's deadline and
every attempt is reported. When a server asks for a pause, all calls to it pause once. How many are
in flight, and how many a minute, is `limits`'; who goes first for the cache, `warm_up`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NoReturn, TypeVar

from nemoflows.calls import Answered, Attempt, Request, Unanswered, Unusable
from nemoflows.calls.wire import estimated_tokens
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.http import errors
from nemoflows.engines.http.limits import AdaptiveConcurrency, RateLimiter
from nemoflows.engines.http.outages import Ending, Outage, Wait
from nemoflows.engines.http.told import MIN_KEY_CHARACTERS, quoted
from nemoflows.engines.http.warm_up import PrefixWarmUp
from nemoflows.errors import BadModel, EndpointDown, NemoflowsError
from nemoflows.models import BASE_URL_ENV, BUILT_IN, Endpoint
from nemoflows.settings import is_loopback

log = logging.getLogger("nemoflows")
T = TypeVar("T")

RETRY_AFTER_CAP_S = 120.0
"""A server that asks for a longer pause is asked again by the next attempt of the pod."""
MAX_ATTEMPTS = 4
"""Attempts at a fault that nobody knows the end of; what heals is waited for to the deadline."""
FREE_ANSWER_S = 10.0
"""Time that a server has to answer a free question once."""
PATIENCE = 0.5
"""Share of its deadline that a call waits for another to write their prefix to the cache."""


class _ClosedError(Exception):
    """The transport is closed, so this attempt is not made."""


@dataclass(slots=True)
class Transport:
    """One endpoint's address, key and patience, shared by every call to it."""

    endpoint: Endpoint
    name: str
    deadline_s: float
    connection_errors: tuple[type[Exception], ...] = ()
    """The SDK's errors for a connection that broke or never came about."""
    sdk_errors: tuple[type[Exception], ...] = ()
    """The SDK's own errors, all of them."""
    most: int = 64
    """Calls in flight that are never exceeded."""
    concurrency: AdaptiveConcurrency = field(init=False)
    limiter: RateLimiter = field(init=False)
    warm_up: PrefixWarmUp = field(init=False)
    ending: Ending = field(default_factory=Ending)
    outage: Outage = field(init=False)
    _resume_s: float = field(default=0.0)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.concurrency = AdaptiveConcurrency(self.most)
        rpm, itpm, otpm = self.endpoint.rpm, self.endpoint.itpm, self.endpoint.otpm
        self.limiter = RateLimiter(rpm, itpm, otpm, self.ending)
        self.outage = Outage(self.where(), ending=self.ending)
        self.warm_up = PrefixWarmUp(self.deadline_s * PATIENCE)

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

    def without_key(self, text: str) -> str:
        """Return a server's words without the endpoint's own key, however JSON spells it."""
        key = os.environ.get(self.endpoint.key_env, "")
        if len(key) < MIN_KEY_CHARACTERS:
            return text
        text = text.replace(key, "***")
        return _spellings(key).sub("***", text) if "\\" in text else text

    def is_the_sdks_own(self) -> bool:
        """Return whether the endpoint is a provider's built-in one, where its SDK would ask too.

        The SDKs' variables (organisation, project, headers) are meant for it and for no other.
        """
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

    async def ask_free(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question that costs nothing, such as for the server's models.

        What the next minutes may heal is waited for: to the deadline, or ten seconds where a
        person waits for the very first contact with the endpoint.

        Raises:
            BadModel: The key is refused.
            EndpointDown: Nothing answers, or only a fault does.
        """
        wait = self.outage.waiting(self.deadline_s)

        def is_retried(error: Exception) -> bool:
            self.outage.heard(error)
            self._refuse_free(error)
            return errors.heals(error, self.connection_errors)

        try:
            async for attempt in wait.attempts(is_retried, asked=False):
                with attempt:
                    wait.next()
                    async with asyncio.timeout(FREE_ANSWER_S):
                        answer = await question()
                    self.outage.over()
                    return answer
        except NemoflowsError:
            raise
        except Exception as error:  # noqa: BLE001  (raised again, as ours where it tells something)
            self._raise_free(error, wait)
        raise AssertionError("tenacity returns or raises")

    def _refuse_free(self, error: Exception) -> None:
        if errors.status_of(error) == 401:
            key = self.endpoint.key_env or "key_env (none is configured)"
            raise BadModel(f"{self.where()} refuses the key in {key}.") from error

    def _raise_free(self, error: Exception, wait: Wait) -> NoReturn:
        status = errors.status_of(error) or 0
        if isinstance(error, (*self.connection_errors, TimeoutError)) or status >= 500:
            raise EndpointDown(
                f"{self.where()} did not answer when asked for its models "
                f"({errors.kind_of(error)}{wait.told()}){self._quoted(error)}. Start the server or "
                "mend the address; no call was made."
            ) from error
        raise error

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
        estimate = (0.0, 0.0)
        if request is not None:
            estimate = (float(estimated_tokens(request)), float(request.limit_tokens))
        wait = self.outage.waiting(self.deadline_s)
        outcome: T | Unanswered
        try:
            async with asyncio.timeout(self.deadline_s), self.warm_up.turn(prefix) as cached:
                outcome = await self._with_retries(call, on_attempt, estimate, wait)
                if not isinstance(outcome, Unanswered):
                    cached()
        except TimeoutError:
            detail = f"{self.where()} gave no reply within {self.deadline_s:g} s."
            outcome = Unanswered(reason="deadline", detail=detail, transient=True)
        except NemoflowsError:
            raise
        except _ClosedError:
            detail = f"{self.where()} was not asked: this process is ending."
            return Unanswered(reason="cancelled", detail=detail, transient=True)
        except Exception as error:  # noqa: BLE001  (every foreign error becomes an outcome)
            return self._refused(error, wait, request)
        if isinstance(outcome, Unanswered) and (refusal := wait.refusal()) is not None:
            return self._refused(refusal, wait, request)
        return outcome

    async def _with_retries(
        self,
        call: Callable[[], Awaitable[T]],
        on_attempt: OnAttempt,
        estimate: tuple[float, float],
        wait: Wait,
    ) -> T:
        """Attempt, again while that may help; raise the last attempt's error where it may not."""
        n_odd = 0

        def is_retried(error: Exception) -> bool:
            nonlocal n_odd
            if isinstance(error, _ClosedError):
                return False
            self.outage.heard(error)
            n_odd += not errors.heals(error, self.connection_errors)
            if not self._is_retried(error) or n_odd >= MAX_ATTEMPTS:
                return False
            if (asked_s := errors.retry_after_s(error)) is not None:
                self._resume_s = max(self._resume_s, time.monotonic() + asked_s)
            return True

        async for attempt in wait.attempts(is_retried, asked=True):
            with attempt:
                await self._pause()
                reply = await self._attempt(call, wait.next(), on_attempt, estimate)
                self.outage.over()
                return reply
        raise AssertionError("tenacity returns or raises")

    async def _attempt(
        self,
        call: Callable[[], Awaitable[T]],
        number: int,
        on_attempt: OnAttempt,
        estimate: tuple[float, float],
    ) -> T:
        """Make one attempt within the limits; what it used replaces what it was estimated at."""
        await self.limiter.take(*estimate)
        used = (0.0, 0.0)
        try:
            async with self.concurrency.slot():
                if self.ending.has_come:
                    raise _ClosedError
                try:
                    reply = await _reported(call, number, on_attempt)
                except asyncio.CancelledError:
                    used = estimate
                    raise
                except Exception as error:
                    if errors.asks_for_less(error):
                        pause_s = min(errors.retry_after_s(error) or 0.0, RETRY_AFTER_CAP_S)
                        self.concurrency.refused(pause_s)
                    raise
                used = _used(reply) or estimate
                self.concurrency.answered()
                return reply
        finally:
            self.limiter.settle(estimate, used)

    async def _pause(self) -> None:
        """Wait out what a refusal asked of all calls; another may lengthen it meanwhile."""
        await self.ending.pause(lambda: self._resume_s - time.monotonic())

    def _is_retried(self, error: BaseException) -> bool:
        """Return whether another attempt is worth making here: not after too long a pause."""
        return (
            not self.ending.has_come
            and errors.is_transient(error, self.connection_errors)
            and (errors.retry_after_s(error) or 0.0) <= RETRY_AFTER_CAP_S
        )

    def _refused(self, error: Exception, wait: Wait, request: Request | None) -> Unanswered:
        if too_long := errors.too_long_numbers(error):
            detail = f"{self.where()} finds the request too long for its context ({too_long})."
            return Unanswered(reason="too_long", detail=detail, transient=False)
        status, code = errors.status_of(error), errors.code_of(error, self.without_key)
        words = [errors.kind_of(error), str(status or ""), f"({code})" if code else ""]
        if isinstance(error, errors.MalformedReplyError) and not status:
            words = [f"with {str(error).removeprefix('status 200 with ')} and status 200"]
        transient = errors.is_transient(error, self.connection_errors)
        reason: Literal["rate_limited", "down", "rejected"] = "down" if transient else "rejected"
        if status == 429 and code not in errors.FINAL_CODES:
            reason = "rate_limited"
        detail = (
            f"{self.where()} answered {' '.join(filter(None, words))} at attempt {wait.number}"
            f"{wait.told()}{self._quoted(error, request)}. {errors.remedy(error, self.endpoint)}"
        )
        return Unanswered(reason=reason, detail=detail.strip(), transient=transient)

    def learned(self, model: str, error: Exception) -> None:
        """Tell, once, that a server refused a request's form and is asked in another one."""
        if (model, said := self._quoted(error)) not in self._told:
            self._told.add((model, said))
            log.warning(
                "%s refused a request's form%s. It is left out from now on.", self.where(), said
            )

    def _quoted(self, error: Exception, request: Request | None = None) -> str:
        """Return the server's own words on an error, as a text of ours goes on with them."""
        said = quoted(self.without_key(errors.told_of(error).words), self.endpoint.key_env, request)
        return f': "{said.rstrip(".")}"' if said else ""


@lru_cache(maxsize=16)
def _spellings(key: str) -> re.Pattern[str]:
    """Return what matches a key as it is, or with characters escaped as JSON allows."""
    return re.compile("".join(rf"(?:\\?{re.escape(c)}|\\u(?i:{ord(c):04x}))" for c in key))


async def _reported(call: Callable[[], Awaitable[T]], number: int, on_attempt: OnAttempt) -> T:
    started_s, status = time.time(), "cancelled"
    try:
        reply = await call()
        status = "ok"
    except Exception as error:
        status = errors.ending(error)
        raise
    finally:
        on_attempt(Attempt(number=number, started_s=started_s, ended_s=time.time(), status=status))
    return reply


def _used(reply: object) -> tuple[float, float] | None:
    """Return the input and output tokens of a reply as limits count them; None if unknown."""
    usage = reply.reply.usage if isinstance(reply, Answered | Unusable) else None
    if usage is None:
        return None
    return float(usage.input_tokens + usage.cache_write_tokens), float(usage.output_tokens)
