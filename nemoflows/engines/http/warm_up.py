"""Prefix-cache warm-up: of calls that share a prefix one goes ahead and writes it to the cache."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic

PREFIX_LIFE_S = 240.0
"""Time that a prefix counts as cached. Source: providers keep it five minutes; one is spared."""


class PrefixWarmUp:
    """Lets the first call of a shared prefix go ahead, so that the others find it cached.

    Sent all at once, N calls of one prefix would write it to the provider's cache N times, each at
    a higher price than plain input.
    """

    def __init__(self, patience_s: float) -> None:
        """Take the time that a call waits for leaders at most before it goes by itself."""
        self._patience_s = patience_s
        self._written_s: dict[str, float] = {}
        self._leading: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, prefix: str) -> AsyncIterator[Callable[[], None]]:
        """Wait until `prefix` is cached, or lead; an empty prefix waits for nobody.

        Yields:
            What a call that was answered has to call. After a leader that was not, another leads.
        """
        if not prefix:
            yield _nothing
            return
        await self._wait(prefix)
        if self._is_warm(prefix) or prefix in self._leading:
            yield _nothing
            return
        self._leading[prefix] = ended = asyncio.Event()
        try:
            yield lambda: self._written(prefix)
        finally:
            del self._leading[prefix]
            ended.set()

    async def _wait(self, prefix: str) -> None:
        """Return when the prefix is cached, when nobody leads, or when patience is at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                while not self._is_warm(prefix) and prefix in self._leading:
                    await self._leading[prefix].wait()

    def _written(self, prefix: str) -> None:
        now_s = monotonic()
        for other in [p for p, at_s in self._written_s.items() if now_s - at_s >= PREFIX_LIFE_S]:
            del self._written_s[other]
        self._written_s[prefix] = now_s

    def _is_warm(self, prefix: str) -> bool:
        return monotonic() - self._written_s.get(prefix, -math.inf) < PREFIX_LIFE_S


def _nothing() -> None:
    """Do nothing: a call that does not lead tells nothing new."""
