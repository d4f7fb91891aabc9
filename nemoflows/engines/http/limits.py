"""How fast one endpoint may be asked: calls at once found by trying, and limits per minute.

`AdaptiveConcurrency` finds out how many calls an endpoint takes at once; `RateLimiter` keeps
declared limits of requests and tokens per minute. Both admit first come, first served, and both
belong to the one event loop of their transport.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from nemoflows.engines.http.outages import Ending

START = 16
"""Calls at once before anything is known of an endpoint."""
SLOW_START_GAIN = 0.5
"""Calls added per success until the first refusal: half as many again per round trip."""
SAFETY = 0.95
"""Share of the number of calls that was once refused at which an endpoint is held."""
FIRST_PROBE_S = 2.0
"""Time without a refusal after which more is tried; doubles with every refusal."""
LONGEST_PROBE_S = 120.0
PROBE_PAUSES = 20.0
"""Time without a refusal, in pauses that refusals ask for: trying costs at most a twentieth."""
BURST_S = 5.0
"""Seconds of a per-minute limit that may be used at once. Source: chosen, providers differ."""


class AdaptiveConcurrency:
    """How many calls at once one endpoint takes: grows while it answers, shrinks when it refuses.

    Additive increase, multiplicative decrease, with a memory. A refusal says how many calls the
    endpoint had accepted at that moment; the limit is then held just below that number, and more
    is tried only after a time without refusals that doubles with each of them. Without the
    memory a saw tooth between half the cap and the cap gives three quarters of the throughput.
    """

    def __init__(self, most: int) -> None:
        """Take the number of calls that is never exceeded."""
        self.most = most
        self.limit = float(min(START, most))
        self.in_flight = 0
        self.n_refused = 0
        self._ceiling: float | None = None
        self._floor = 1.0
        self._probe_s = FIRST_PROBE_S
        self._refused_s = 0.0
        self._last_s = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place among the calls in flight, and give it back."""
        await self._enter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._admit()

    def answered(self) -> None:
        """Take note of a call that the endpoint took: more may be tried."""
        if self._ceiling is None:
            gain = SLOW_START_GAIN
        elif self.limit < self._ceiling * SAFETY:
            gain = min(SLOW_START_GAIN, self._ceiling * SAFETY - self.limit)
        elif monotonic() - self._refused_s >= self._probe_s:
            gain = 1 / self.limit
        else:
            return
        self.limit = min(float(self.most), self.limit + gain)
        self._admit()

    def refused(self, pause_s: float = 0.0) -> None:
        """Take note of a call that the endpoint refused for now; call it inside its slot.

        Args:
            pause_s: What the endpoint asked everybody to wait.
        """
        now_s = monotonic()
        if now_s - self._last_s > max(1.0, 2 * pause_s):
            self._floor = max(1.0, self.limit / 2)  # one burst of refusals halves at most once
            self._ceiling = self.limit
            doubled = self._probe_s * 2 if self.n_refused else FIRST_PROBE_S
            self._probe_s = min(LONGEST_PROBE_S, max(doubled, PROBE_PAUSES * pause_s))
        self._last_s = self._refused_s = now_s
        self.n_refused += 1
        known = self.limit if self._ceiling is None else self._ceiling
        self._ceiling = max(self._floor, min(known, self.in_flight - 1.0))
        self.limit = max(self._floor, self._ceiling * SAFETY)

    async def _enter(self) -> None:
        if self.in_flight < int(self.limit) and not self._waiting:
            self.in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # admitted and cancelled at once
                self.in_flight -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)


@dataclass(slots=True)
class _Bucket:
    """One limit per minute: fills steadily, holds a few seconds' worth, may go below zero."""

    per_minute: int
    level: float = field(init=False)
    filled_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.filled_s = self.size, monotonic()

    @property
    def rate(self) -> float:
        return self.per_minute / 60

    @property
    def size(self) -> float:
        return max(1.0, self.rate * BURST_S)

    def wait_s(self, n: float) -> float:
        """Return how long until `n` may be taken; more than the bucket holds waits for it full."""
        now_s = monotonic()
        self.level = min(self.size, self.level + (now_s - self.filled_s) * self.rate)
        self.filled_s = now_s
        return max(0.0, (min(n, self.size) - self.level) / self.rate)


class RateLimiter:
    """Requests, input tokens and output tokens per minute; None is without limit.

    A call takes its estimate before it is sent and settles what it really used: an estimate that
    was too high is given back, one that was too low is owed by the calls after it.
    """

    def __init__(
        self, rpm: int | None, itpm: int | None, otpm: int | None, ending: Ending | None = None
    ) -> None:
        self._buckets = [_Bucket(limit) if limit else None for limit in (rpm, itpm, otpm)]
        self._turn = asyncio.Lock()
        self._ending = ending or Ending()

    async def take(self, input_tokens: float, output_tokens: float) -> None:
        """Wait until the call fits every limit, first come, first served, and take it."""
        if not any(self._buckets):
            return
        wanted = (1.0, input_tokens, output_tokens)
        async with self._turn:
            await self._ending.pause(lambda: self._wait_s(wanted))
            self._take(wanted)

    def settle(self, taken: tuple[float, float], used: tuple[float, float]) -> None:
        """Replace an estimate of input and output tokens by what the call used."""
        self._take((0.0, used[0] - taken[0], used[1] - taken[1]))

    def _wait_s(self, wanted: tuple[float, ...]) -> float:
        pairs = zip(self._buckets, wanted, strict=True)
        return max((bucket.wait_s(n) for bucket, n in pairs if bucket), default=0.0)

    def _take(self, wanted: tuple[float, ...]) -> None:
        for bucket, n in zip(self._buckets, wanted, strict=True):
            if bucket:
                bucket.level -= n
