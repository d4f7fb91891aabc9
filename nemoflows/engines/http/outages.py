"""Waiting out what the next seconds or minutes heal, within a call's own deadline.

A cluster's next attempt starts at once, so that three of them last a quarter of a minute: a server
that restarts or loads its model is waited for here. In a terminal the very first contact with an
endpoint is another matter: most likely its address is wrong or nobody started it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field

from nemoflows.engines.http.errors import is_free, is_heard, kind_of, status_of
from nemoflows.settings import in_pod

log = logging.getLogger("nemoflows")

FIRST_CONTACT_S = 10.0
"""Time that a person waits for the first sign of an endpoint."""
MOST_UNITS = 32
"""Longest pause, in units: about a quarter of a minute, half of it on average."""
PERHAPS_PAID = 4
"""Times that pauses are longer where an attempt may have been billed: it is to be one of few."""
STEP_S = 0.25
"""Longest time for which a pause looks at nothing else."""
TOLD_AFTER_S = 3.0
"""Time after which an outage is told: shorter ones are a server's daily business."""


def first_pause_s() -> float:
    """Return the unit of growing pauses, in seconds."""
    return 0.5


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
    is_ending: bool = False
    """This process is ending, so that nobody waits any longer."""

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
                _clock(self.since_s),
                f"{kind_of(error)} {status_of(error) or ''}".strip(),
                _clock(until_s),
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
    begun_s: float = field(default_factory=time.time)

    def next(self) -> int:
        """Begin an attempt, and return its number."""
        self.number += 1
        return self.number

    async def on(self, error: Exception, asked_s: float | None = None) -> bool:
        """Wait before the next attempt; return False where this one was the last.

        Args:
            asked_s: The pause that the server asked for, which is waited for elsewhere.
        """
        begun_s, patience_s = self.begun_s, self.patience_s()
        self.error = error
        self.outage.failed(error, begun_s + patience_s)
        pause_s = 0.0  # others may ask for a longer one meanwhile
        if asked_s is None:
            most = MOST_UNITS * (1 if is_free(error) else PERHAPS_PAID)
            pause_s = first_pause_s() * random.uniform(0, min(most, 2 ** min(self.number, 9)))
            if time.time() + pause_s > begun_s + patience_s and patience_s < self.deadline_s:
                return False
        await self._pause(pause_s)
        return time.time() < begun_s + patience_s

    async def _pause(self, pause_s: float) -> None:
        """Sleep, in steps: a process that is taken away ends what waits at once."""
        end_s = time.monotonic() + pause_s
        await asyncio.sleep(0)
        while (left_s := end_s - time.monotonic()) > 0 and not self.outage.is_ending:  # noqa: ASYNC110
            await asyncio.sleep(min(left_s, STEP_S))

    def patience_s(self) -> float:
        """Return how long this call waits at most."""
        if self.outage.was_met or in_pod():
            return self.deadline_s
        return min(self.deadline_s, FIRST_CONTACT_S)

    def told(self) -> str:
        """Return how long was waited, where that was worth telling."""
        waited_s = time.time() - self.begun_s
        return f" after {waited_s:.0f} s" if waited_s >= 1 else ""


def _clock(at_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_s))
