"""Ending a pod that is taken away: finished replies land, nothing new is begun, Flyte tries again.

A spot node that is reclaimed, or a drained one, sends SIGTERM and a little later SIGKILL. Within
the grace no new call is made, what is in flight may finish and is recorded, and the process ends
with status 143 and without an error file: Flyte counts that as a failure of the system, which costs
none of the user's retries.

Source: flytepropeller's rule for a pod that ends without an error document, as read in its source.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotYet
from types import FrameType

from nemoflows.llm.client import LLMClient

log = logging.getLogger("nemoflows")

STATUS = 128 + signal.SIGTERM

FLUSH_S = 2.0
"""Time after the grace for lines that wait; records are written when a call lands."""


def end_gracefully_on_sigterm(
    clients: Callable[[], Sequence[LLMClient]], loop: asyncio.AbstractEventLoop, grace_s: float
) -> None:
    """Install the handler; does nothing outside the main thread, which alone may have one.

    Args:
        clients: The clients of the process at the time of the signal.
        loop: The loop on which they live.
        grace_s: Time for what is in flight.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not begin anew
        try:
            _end(clients(), loop, grace_s)
        finally:
            # An exception would leave an error file and spend one of the user's retries.
            os._exit(STATUS)

    signal.signal(signal.SIGTERM, handle)


def _end(clients: Sequence[LLMClient], loop: asyncio.AbstractEventLoop, grace_s: float) -> None:
    n_in_flight = sum(llm.in_flight.n_in_flight for llm in clients)
    log.warning(
        "SIGTERM: this pod is taken away. No new call is made; %d in flight have %g s to finish. "
        "What is recorded is not paid again by the next attempt.",
        n_in_flight,
        grace_s,
    )

    # Not here: this thread may hold a lock that flushing needs, and a store may hang.
    ending = threading.Thread(target=_drain_and_flush, args=(clients, loop, grace_s), daemon=True)
    ending.start()
    ending.join(grace_s + FLUSH_S)


def _drain_and_flush(
    clients: Sequence[LLMClient], loop: asyncio.AbstractEventLoop, grace_s: float
) -> None:
    async def drain() -> None:
        await asyncio.gather(*(llm.drain() for llm in clients))

    try:
        asyncio.run_coroutine_threadsafe(drain(), loop).result(timeout=grace_s)
    except NotYet:
        left = sum(llm.in_flight.n_in_flight for llm in clients)
        log.warning("%d calls did not finish and are in doubt: they may be billed.", left)
    for llm in clients:
        llm.flush()
