"""Waiting in a pod for a store that is away: Flyte's next attempt would start at once, and end so.

On a laptop nobody waits longer than the file system itself does: most likely the address is wrong.
"""

from __future__ import annotations

import errno
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger("nemoflows")

_ASKS = frozenset(
    {"cat_file", "cat_ranges", "exists", "find", "info", "mv", "pipe_file", "put_file", "rm_file"}
)
"""What of a file system goes to its server."""
_LONGEST_S = 8.0
"""Longest pause."""
_TOLD_AFTER_S = 3.0
"""Time after which an outage is told."""
_PASSING = {errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED}
"""What s3fs makes of a server's own failure, besides what its classes are named for."""

_wait_s: list[Callable[[], float]] = [lambda: 0.0]


def wait_for_stores(wait_s: Callable[[], float]) -> None:
    """Have each request to a store of this process waited for so long; before, nobody waits."""
    _wait_s[0] = wait_s


def is_passing(error: BaseException) -> bool:
    """Return whether the next seconds or minutes may heal what a store failed by."""
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    return "Timeout" in names or "Connect" in names or getattr(error, "errno", None) in _PASSING


class PatientFiles:
    """A file system of fsspec's whose server is waited for, as long as was said."""

    def __init__(self, files: Any, where: str) -> None:
        """Take a file system and what texts call it."""
        self._files, self._where = files, where

    def __getattr__(self, name: str) -> Any:
        """Return what the file system has, made patient where it asks the server."""
        found = getattr(self._files, name)
        return functools.partial(self._asked, found) if name in _ASKS else found

    def _asked(self, ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        begun_s = time.time()
        try:
            return ask(*args, **kwargs)
        except Exception as error:
            wait_s = _wait_s[0]()
            if not is_passing(error) or not wait_s:
                raise
        return self._waited(functools.partial(ask, *args, **kwargs), begun_s, wait_s)

    def _waited(self, ask: Callable[[], Any], begun_s: float, wait_s: float) -> Any:
        from tenacity import Retrying, retry_if_exception, wait_random_exponential
        from tenacity.stop import stop_after_delay

        outage = _Outage(self._where, begun_s, wait_s)
        return Retrying(
            retry=retry_if_exception(is_passing),
            wait=wait_random_exponential(multiplier=1, max=_LONGEST_S),
            stop=stop_after_delay(wait_s),
            before_sleep=outage.waits,
            reraise=True,
        )(outage.watched, ask)


@dataclass(slots=True)
class _Outage:
    """What is told of a store that is away, once and once."""

    where: str
    since_s: float
    wait_s: float
    is_told: bool = False

    def waits(self, state: RetryCallState) -> None:
        """Tell what is waited for, unless it is a moment."""
        error = state.outcome.exception() if state.outcome else None
        if not self.is_told and time.time() - self.since_s >= _TOLD_AFTER_S:
            self.is_told = True
            log.warning(
                "The store %s does not answer since %s (%s); waiting until %s at most.",
                self.where,
                clock(self.since_s),
                type(error).__name__,
                clock(self.since_s + self.wait_s),
            )

    def watched(self, ask: Callable[[], Any]) -> Any:
        """Ask, and tell that the store answers again, be it that there is no such file."""
        try:
            found = ask()
        except Exception as error:
            if not is_passing(error):
                self._over()
            raise
        self._over()
        return found

    def _over(self) -> None:
        if self.is_told:
            away_s = time.time() - self.since_s
            log.warning("The store %s answers again, %.0f s later.", self.where, away_s)


def clock(at_s: float) -> str:
    """Return a Unix time as logs tell it."""
    return time.strftime("%H:%M:%S", time.localtime(at_s))
