"""How many calls are in flight, and when none may begin any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Runway:
    """Lets so many calls fly at once, counts them, and waits until they have landed."""

    def __init__(self, most: int) -> None:
        """Take how many calls may be in flight at once."""
        self.n_flying = 0
        """Calls that an engine has begun and not finished."""
        self._slots = asyncio.Semaphore(most)
        self._open = asyncio.Event()
        self._open.set()
        self._landed = asyncio.Event()

    def close(self) -> None:
        """Let no call begin from now on."""
        self._open.clear()

    async def land(self) -> None:
        """Wait until the calls in flight are recorded, whoever asked for them."""
        while self.n_flying:
            self._landed.clear()
            await self._landed.wait()

    @asynccontextmanager
    async def flying(self, *, waits: bool) -> AsyncIterator[None]:
        """Count a call among those in flight, once there is a place for it.

        Args:
            waits: The call only waits, so that it takes no place and is not waited for.
        """
        if waits:
            await self._open.wait()
            yield
            return
        async with self._slots:
            await self._open.wait()
            self.n_flying += 1
            try:
                yield
            finally:
                self.n_flying -= 1
                self._landed.set()
