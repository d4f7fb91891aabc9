"""Progress a person can follow: bars in a terminal, log lines in a pod."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)
EVERY_S = 5.0
"""Pause between two log lines of one stage."""

Progress = Callable[[int, int], None]
"""Told how many of how many items are finished."""


class Tell(Protocol):
    """Takes note of how many of how many are done."""

    def __call__(self, done: int, total: int, stage: str = "") -> None:
        """Show it."""


@contextmanager
def progress(label: str) -> Iterator[Tell]:
    """Give a function to be told how many of how many are done, and show it."""
    if sys.stderr.isatty():
        with _bar(label) as tell:
            yield tell
    else:
        yield _lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Tell]:
    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(label, total=None)

        def tell(done: int, total: int, stage: str = "") -> None:
            bars.update(bar, description=_name(label, stage), completed=done, total=total)

        yield tell


def _lines(label: str) -> Tell:
    shown_s = time.monotonic()

    def tell(done: int, total: int, stage: str = "") -> None:
        nonlocal shown_s
        if done == total or time.monotonic() - shown_s >= EVERY_S:
            shown_s = time.monotonic()
            log.info("%s: %d of %d", _name(label, stage), done, total)

    return tell


def _name(label: str, stage: str) -> str:
    return f"{label} ({stage})" if stage else label
