"""Files below a root, reached part by part: no link is followed on the way, whenever it was made.

What was a folder when it was listed may be a link when it is read. So each part of a name is opened
in the folder that was opened before it, as what it is at that moment.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Self

MAX_PATH_BYTES = 4096
"""As systems limit a path: each part of it is opened."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root:
    """A folder whose files are read beneath it; holds one descriptor until it is closed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a folder; a link to it is followed, for whoever names it chooses it.

        Raises:
            OSError: It is no folder, or may not be entered.
        """
        self._fd = os.open(path, _FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @contextmanager
    def folder(self, name: str = "") -> Iterator[int]:
        """Open a folder below the root, for calls that take a `dir_fd`.

        Raises:
            OSError: There is none, a part of its name is a link, or is no plain name.
        """
        if len(os.fsencode(name)) > MAX_PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
        fd = os.dup(self._fd)
        try:
            for part in name.split("/") if name else ():
                below = os.open(_plain(part, name), _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def entries(self, folder: str = "") -> list[tuple[str, bool]]:
        """Return what lies in a folder, by name, and whether it is a folder; a link is none.

        Raises:
            OSError: As `folder` does; it may not be listed.
        """
        with self.folder(folder) as fd, os.scandir(fd) as found:
            return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in found)

    def statuses(self, folder: str = "") -> list[tuple[str, os.stat_result | OSError]]:
        """Return what lies in a folder, by name, and what each is, a link itself among them.

        Raises:
            OSError: As `entries` does.
        """
        with self.folder(folder) as fd, os.scandir(fd) as found:
            return sorted([(each.name, _status(each)) for each in found], key=itemgetter(0))

    def read(self, name: str, *, limit_bytes: int) -> tuple[bytes, os.stat_result]:
        """Return a regular file's content, and what it is.

        Raises:
            OSError: As `folder` does; it is a link, a pipe or a device, cannot be read, or is
                longer than the limit (EFBIG).
        """
        folder, _, last = name.rpartition("/")
        with self.folder(folder) as parent:
            fd = os.open(
                _plain(last, name), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=parent
            )
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            data = file.read(limit_bytes + 1) if status.st_size <= limit_bytes else b""
            if status.st_size > limit_bytes or len(data) > limit_bytes:
                raise OSError(errno.EFBIG, f"longer than {limit_bytes:,} bytes", name)
        return data, status


def _plain(part: str, name: str) -> str:
    if part in {"", ".", ".."} or "\0" in part:
        raise OSError(errno.EINVAL, "not a path from the root", name)
    return part


def _status(entry: os.DirEntry[str]) -> os.stat_result | OSError:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError as error:
        return error
