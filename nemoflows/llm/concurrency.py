"""Several pieces of work at once, none of them left running where one fails, and their number."""

from __future__ import annotations

import asyncio
import logging
import resource
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
MOST_DESCRIPTORS = 65_536
"""What the limit is raised to at most: far more than calls at once that make sense."""
RESERVED_DESCRIPTORS = 96
"""Left to the journal, the index, sandboxes and the program itself. Source: a run has 20 to 40."""
PER_CALL = 2
"""Connections per call at once: one to either tier's endpoint, one of them idle."""
log = logging.getLogger("nemoflows")


def most_at_once(wanted: int) -> int:
    """Return how many calls may be in flight: no more than the process may open connections.

    The soft limit of descriptors is raised to the hard one first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if 0 <= soft < goal:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            soft = goal
    fit = max(1, (soft - RESERVED_DESCRIPTORS) // PER_CALL) if soft >= 0 else wanted
    if fit < wanted:
        log.warning(
            "%d calls at once would take more than the %d files and connections that this process "
            "may open, so it makes %d at once. Raise the limit (`ulimit -n`), or lower "
            "NEMOFLOWS_CONCURRENCY.",
            wanted,
            soft,
            fit,
        )
    return min(wanted, fit)


async def together(works: Iterable[Coroutine[Any, Any, T]], *, most: int | None = None) -> list[T]:
    """Return all results in order; where one raises, the others are ended before it is raised.

    Args:
        works: What is done; of an iterator each is made when it is begun.
        most: How many are under way at once; None is all of them.
    """
    if most is None:
        works = list(works)
        most = len(works)
    waiting, found = iter(enumerate(works)), dict[int, T]()

    async def one_by_one() -> None:
        for number, work in waiting:
            found[number] = await work

    workers = [asyncio.ensure_future(one_by_one()) for _ in range(most)]
    try:
        await asyncio.gather(*workers)
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for _, work in waiting:
            work.close()
        raise
    return [found[number] for number in sorted(found)]


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
