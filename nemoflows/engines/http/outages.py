"""Waiting out what the next seconds or minutes heal, within a call's own deadline.

A cluster's next attempt starts at once, so that three of them last a quarter of a minute: a server
that restarts or loads its model is waited for here. In a terminal the very first contact with an
endpoint is another matter: most likely its address is wrong or nobody started it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nemoflows.engines.http.errors import ending, is_free, is_heard, retry_after_s
from nemoflows.settings import in_pod
from nemoflows.storage.patience import clock

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

log = logging.getLogger("nemoflows")

FIRST_CONTACT_S = 10.0
"""Time that a person waits for the first sign of an endpoint."""
MOST_UNITS = 32
"""Longest pause, in units: about a quarter of a minute, half of it on average."""
PERHAPS_PAID = 4
"""Times that pauses are longer where an attempt may have been billed: it is to be one of few."""
HANGS_S = 1.0
"""Time without an answer after which an attempt is told so, and not as the refusal before it."""
STEP_S = 0.25
"""Longest time for which a pause looks at nothing else."""
TOLD_AFTER_S = 3.0
"""Time after which an outage is told: shorter ones are a server's daily business."""


def first_pause_s() -> float:
    """Return the unit of growing pauses, in seconds."""
    return 0.5


@dataclass(slots=True)
class Ending:
    """Whether this process is ending: nothing is sent any more, and nobody waits any longer."""

    has_come: bool = False

    async def pause(self, left_s: Callable[[], float]) -> None:
        """Wait while there is time left, looked at in steps: what waits ends with the process."""
        while (pause_s := left_s()) > 0 and not self.has_come:  # noqa: ASYNC110  (a clock)
            await asyncio.sleep(min(pause_s, STEP_S))


@dataclass(slots=True)
class Outage:
    """What is known of whether one endpoint answers, by all calls to it."""

    where: str
    """The endpoint as texts name it."""
    was_met: bool = False
    """Whether it ever answered anything of its own, a refusal included."""
    since_s: float | None = None
    """Unix time since which it does not answer."""
    is_told: bool = False
    ending: Ending = field(default_factory=Ending)

    def waiting(self, deadline_s: float) -> Wait:
        """Return the patience of one call, or of one question."""
        return Wait(self, deadline_s)

    def heard(self, error: Exception) -> None:
        """Take note of a failure: what a server says itself shows that it is there."""
        self.was_met |= is_heard(error)

    def failed(self, error: Exception, until_s: float) -> None:
        """Take note of a failure that is waited for, and tell of it once."""
        now_s = time.time()
        self.since_s = self.since_s or now_s
        if not self.is_told and now_s - self.since_s >= TOLD_AFTER_S:
            self.is_told = True
            log.warning(
                "%s does not answer since %s (%s); waiting until %s at most.",
                self.where,
                clock(self.since_s),
                ending(error),
                clock(until_s),
            )

    def over(self) -> None:
        """Take note of an answer."""
        if self.is_told and self.since_s is not None:
            log.warning("%s answers again, %.0f s later.", self.where, time.time() - self.since_s)
        self.was_met, self.is_told, self.since_s = True, False, None


@dataclass(slots=True)
class Wait:
    """How long one call has waited, and how long it will."""

    outage: Outage
    deadline_s: float
    number: int = 0
    """Of the attempt."""
    error: Exception | None = None
    """What the last attempt that ended failed by."""
    asked_s: float | None = None
    """Since when an attempt is under way."""
    begun_s: float = field(default_factory=time.monotonic)

    def next(self) -> int:
        """Begin an attempt, and return its number."""
        self.number, self.asked_s = self.number + 1, time.monotonic()
        return self.number

    def refusal(self) -> Exception | None:
        """Return what to tell of a call that ran out of time; None where nothing answered it."""
        hangs = self.asked_s is not None and time.monotonic() - self.asked_s >= HANGS_S
        return None if hangs else self.error

    def attempts(self, is_retried: Callable[[Exception], bool], *, asked: bool) -> AsyncRetrying:
        """Return the attempts: again while that may help, within the patience.

        Args:
            is_retried: Whether a failure is worth another attempt.
            asked: The pause that a server asks for is waited for elsewhere, by all calls at once.
        """
        from tenacity import AsyncRetrying, wait_random_exponential

        def pause_s(state: RetryCallState) -> float:
            error = _failed(state)
            self.error, self.asked_s = error, None
            self.outage.failed(error, time.time() + self._left_s())
            if asked and retry_after_s(error) is not None:
                return 0.0
            unit, most = first_pause_s(), MOST_UNITS * (1 if is_free(error) else PERHAPS_PAID)
            return wait_random_exponential(multiplier=2 * unit, max=most * unit)(state)

        return AsyncRetrying(
            retry=lambda state: is_retried(_failed(state)),
            wait=pause_s,
            stop=lambda state: self._is_over(state.upcoming_sleep),
            sleep=self._pause,
            reraise=True,
        )

    def _is_over(self, pause_s: float) -> bool:
        left_s = self._left_s()
        is_short = self.patience_s() < self.deadline_s
        return self.outage.ending.has_come or left_s <= (pause_s if is_short else 0.0)

    def _left_s(self) -> float:
        return self.begun_s + self.patience_s() - time.monotonic()

    async def _pause(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        await asyncio.sleep(0)
        await self.outage.ending.pause(lambda: end_s - time.monotonic())

    def patience_s(self) -> float:
        """Return how long this call waits at most."""
        if self.outage.was_met or in_pod():
            return self.deadline_s
        return min(self.deadline_s, FIRST_CONTACT_S)

    def told(self) -> str:
        """Return how long was waited, where that was worth telling."""
        waited_s = time.monotonic() - self.begun_s
        return f" after {waited_s:.0f} s" if waited_s >= 1 else ""


def _failed(state: RetryCallState) -> Exception:
    """Return what an attempt failed by; what is no error of an attempt goes on at once."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Exception):
        raise error or AssertionError("an attempt that did not fail is not repeated")
    return error
