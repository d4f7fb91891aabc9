"""Several pieces of work at once, none of them left running where one fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; where one raises, the others are ended before it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@cache
def background_loop() -> asyncio.AbstractEventLoop:
    """Return the process's one background loop: clients and engines belong to it for good."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="nemoflows", daemon=True).start()
    return loop


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run some work on the background loop, and wait for it; Ctrl-C ends it."""
    future = asyncio.run_coroutine_threadsafe(work, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
