"""The C library, as far as the sandbox calls it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def libc() -> ctypes.CDLL:
    """Return the C library, its errors kept."""
    return ctypes.CDLL(None, use_errno=True)


def call(function: Callable[..., Any], *arguments: Any) -> int:
    """Call a function of the C library.

    Raises:
        OSError: It failed.
    """
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(function(*wide))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call that the C library has no function for.

    Raises:
        OSError: It failed.
    """
    return call(libc().syscall, number, *arguments)
