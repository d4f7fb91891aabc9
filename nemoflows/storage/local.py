"""A folder on a disk as a root."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from nemoflows.storage.store import MISSING, TEMPORARY, Store, translated

LAST_BYTES = 2**14
"""In which the last line lies: one takes some hundred bytes."""
_spare: list[int] = []
"""A descriptor that is closed where there is no other for a file of ours."""


class LocalStore(Store):
    """A folder, made when it is first written to."""

    is_local = True

    def __init__(self, root: Path, *, links: bool = False) -> None:
        """Take a folder of its owner's alone; whether a file may be a link to elsewhere."""
        self.root = self.uri = str(root)
        self._follow = 0 if links else os.O_NOFOLLOW
        """What is private is no link to elsewhere."""
        self._torn: set[str] = set()
        """Names that end in half a line, so that the next one begins anew."""

    def make(self) -> None:
        """Make the root, so that one which cannot be made is known before there is any work.

        From now on the process keeps a descriptor for what is written when there is no other.
        """
        _regain()
        with translated(f"The folder {self.root} cannot be made", local=True):
            self._make(Path(self.root))

    def append(self, name: str, lines: bytes) -> bool:
        """Append in one write."""
        whole = b"\n" + lines if name in self._torn else lines
        fd = self._open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            n_written = os.write(fd, whole)
        finally:
            os.close(fd)
            _regain()
        if n_written < len(whole):
            self._torn.add(name)
            raise OSError("half a line was written")
        self._torn.discard(name)
        return True

    def _read(self, name: str) -> bytes:
        try:
            with self._opened(name) as file:
                return file.read()
        finally:
            _regain()

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, one at a time in memory."""
        tried = f"{self.path(name)} cannot be read"
        whole = translated(tried, but=MISSING, local=True)
        with suppress(*MISSING), whole, self._opened(name) as file:
            yield from file

    def last(self, name: str) -> bytes:
        """Return the last line of a file, without reading the others."""
        tried = f"{self.path(name)} cannot be read"
        whole = translated(tried, but=MISSING, local=True)
        with suppress(*MISSING), whole, self._opened(name) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
            return next(reversed(file.read().splitlines()), b"")
        return b""

    def _opened(self, name: str) -> BinaryIO:
        fd = _descriptor(self.path(name), os.O_RDONLY | os.O_NONBLOCK | self._follow)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no file")
        return open(fd, "rb")  # noqa: PTH123  (as in `_write`)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path(name)
        work = f"{path.rpartition('/')[0]}/{TEMPORARY}{uuid4().hex}"
        try:
            with os.fdopen(self._open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
            os.replace(work, path)  # noqa: PTH105  (a hot path; Path costs more than the call)
        except BaseException:
            with suppress(OSError):
                os.unlink(work)  # noqa: PTH108  (as above)
            raise
        finally:
            _regain()

    def _list(self, folder: str) -> dict[str, tuple[int, float]]:
        found = {}
        for parent, _, names in os.walk(self.path(folder)):
            for path in (f"{parent}/{name}" for name in names):
                with suppress(FileNotFoundError):  # removed since, by another process
                    found[path] = (status := os.lstat(path)).st_size, status.st_mtime
        return found

    def touch(self, name: str) -> None:
        """Set the time of a file's change."""
        with suppress(OSError):
            os.utime(self.path(name))

    def _move(self, name: str, to: str) -> None:
        target = Path(self.path(to))
        self._make(target.parent)
        Path(self.path(name)).replace(target)

    def _remove(self, name: str) -> None:
        Path(self.path(name)).unlink()

    def _publish(self, work: Path, name: str, last: str) -> None:
        for path in work.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        target = Path(self.path(name))
        if target.exists() and not (target / last).exists():
            shutil.rmtree(target, ignore_errors=True)
        try:
            work.rename(target)
        except OSError:
            if not (target / last).exists():
                raise
            # Another process with the same content was first.

    def _open(self, path: str, flags: int) -> int:
        """Open a file to write, in a folder that is made where it is missing."""
        try:
            return _descriptor(path, flags, 0o600)
        except FileNotFoundError:
            self._make(Path(path).parent)
            return _descriptor(path, flags, 0o600)

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it that are missing, each for its owner alone."""
        if not folder.is_dir():
            if folder != folder.parent:
                self._make(folder.parent)
            folder.mkdir(0o700, exist_ok=True)


def _descriptor(path: str, flags: int, mode: int = 0) -> int:
    """Open a file; where the process has no descriptor left, with the one that it keeps."""
    try:
        return os.open(path, flags, mode)
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE} or not _spare:
            raise
        os.close(_spare.pop())
    return os.open(path, flags, mode)


def _regain() -> None:
    """Keep a descriptor again, before anybody else takes what a file of ours has left."""
    if not _spare:
        with suppress(OSError):
            _spare.append(os.open(os.devnull, os.O_RDONLY))
