"""Close what a fork must not share, and keep every thread from it while the process forks.

Source: sqlite.org/howtocorrupt.html, carrying an open database connection across a fork.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Held(Protocol):
    def hold(self) -> None: ...
    def release(self) -> None: ...


held_open: weakref.WeakSet[_Held] = weakref.WeakSet()
_held: list[_Held] = []


def _before() -> None:
    for each in list(held_open):
        each.hold()
        _held.append(each)


def _after() -> None:
    while _held:
        _held.pop().release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
