"""Remove folders whatever is in them: deeper than any path may be long, and closed by their modes.

Called when no process is left that could put anything in the way.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress

PREFIX = "nemoflows-run-"
_YOUNG_S = 60.0
"""A folder younger than this may not be locked yet by whoever made it."""


def hold(folder: str) -> int:
    """Return a descriptor that marks a folder as in use until it is closed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def sweep(parent: str) -> None:
    """Remove the folders of fork servers that were killed with whoever started them."""
    try:
        names = os.listdir(parent)
    except OSError:  # one that can be written need not be listed
        return
    for name in names:
        folder = f"{parent}/{name}"
        with suppress(OSError):
            found = os.lstat(folder) if name.startswith(PREFIX) else None
            mine = found and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if found and mine and time.time() - found.st_mtime > _YOUNG_S:
                fd = hold(folder)
                try:
                    remove(folder)
                finally:
                    os.close(fd)


def remove(folder: str) -> None:
    """Remove a folder and all in it, or whatever a run put in its place."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(folder).st_mode):
            clear(folder)
            os.rmdir(folder)
        else:
            os.unlink(folder)


def clear(folder: str) -> None:
    """Remove all in a folder: folders are lifted to its top one by one, so that none is deep."""
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise NotADirectoryError(folder)
    os.chmod(folder, stat.S_IRWXU)
    fd, number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), 0
    try:
        while names := os.listdir(fd):
            for name in names:
                if not _is_folder(name, fd):
                    os.unlink(name, dir_fd=fd)
                    continue
                number = _lift(name, fd, number)
                os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)


def _lift(name: str, fd: int, number: int) -> int:
    """Remove the files of a folder and move its folders to the top, under new names."""
    below = _opened(name, fd)
    try:
        for each in os.listdir(below):
            if not _is_folder(each, below):
                os.unlink(each, dir_fd=below)
                continue
            os.chmod(each, stat.S_IRWXU, dir_fd=below)  # to move a folder is to write to it
            while True:
                number += 1
                with suppress(FileExistsError, NotADirectoryError):
                    os.mkdir(f".lifted-{number}", dir_fd=fd)
                    os.rename(each, f".lifted-{number}", src_dir_fd=below, dst_dir_fd=fd)
                    break
    finally:
        os.close(below)
    return number


def _opened(name: str, fd: int) -> int:
    os.chmod(name, stat.S_IRWXU, dir_fd=fd)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)


def _is_folder(name: str, fd: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
