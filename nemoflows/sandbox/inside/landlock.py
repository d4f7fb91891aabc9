"""Landlock: a process gives up every file but those below named paths, for itself and its children.

Source: the kernel's Documentation/userspace-api/landlock.rst and linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable

from .libc import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_GET_VERSION, _BELOW_PATH = 1, 1
_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_MAKE_DEVICES = 1 << 6 | 1 << 11
_TCP = 1 | 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
LEAST_ABI = 3
"""The first that keeps files from being truncated; older ones do not contain a process."""
SIGNALS_ABI = 6
"""The first that keeps signals inside."""


def abi() -> int:
    """Return the kernel's Landlock version; 0 where it has none."""
    try:
        return syscall(_CREATE, ctypes.c_void_p(None), 0, _GET_VERSION)
    except OSError:
        return 0


def restrict(*, readable: Iterable[str], writable: Iterable[str], network: bool = False) -> None:
    """Allow this process only what lies below the named paths; those that are missing are passed.

    Args:
        readable: May be read and executed.
        writable: May be changed too.
        network: Leave TCP be: the process has a network of its own.

    Raises:
        OSError: The kernel refuses.
    """
    version = abi()
    files = _all_rights(version)
    tcp = _TCP if version >= 4 and not network else 0
    scoped = _ABSTRACT_SOCKETS | _SIGNALS if version >= SIGNALS_ABI else 0
    ruleset = _create(files, tcp, scoped)
    try:
        for path in readable:
            _add(ruleset, path, (_EXECUTE | _READ | _LIST) & files)
        for path in writable:
            _add(ruleset, path, files & ~_MAKE_DEVICES)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _all_rights(version: int) -> int:
    rights = (1 << 13) - 1
    for needed, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        rights |= right if version >= needed else 0
    return rights


def _create(files: int, tcp: int, scoped: int) -> int:
    fields = struct.pack("QQQ", files, tcp, scoped)
    for size in (24, 16, 8):  # older kernels know fewer fields
        if any(fields[size:]):
            break
        try:
            return syscall(_CREATE, ctypes.create_string_buffer(fields[:size], size), size, 0)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
    return syscall(_CREATE, ctypes.create_string_buffer(fields, 24), 24, 0)


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        below = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12)
        syscall(_ADD, ruleset, _BELOW_PATH, below, 0)
    finally:
        os.close(fd)
