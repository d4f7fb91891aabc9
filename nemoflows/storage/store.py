"""One interface to a root: files by name below it, on a local disk or in an object store.

A name is written whole or not at all: locally by a temporary file and a rename, in an object store
by one put, which is whole by the store's own promise. A missing name is None; whatever else fails
is one of our errors.

Not covered: power loss (no fsync).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar
from uuid import uuid4

from nemoflows.errors import BadInput, CorpusError, EndpointDown, NemoflowsError
from nemoflows.storage.filesystem import close_to_others, credentials, local_path

_TEMPORARY = ".tmp-nemoflows-"
_OLD_TEMPORARY = ".tmp"
"""How versions below 0.2 ended the names of their temporary files."""
_ABANDONED_S = 24 * 3600.0
"""A temporary file or folder older than this belongs to a process that was killed."""

_spare: list[int] = []
"""A descriptor that is closed where there is no other for a file of ours."""

_MISSING = (FileNotFoundError, NotADirectoryError)

_PASSING = {errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED}
"""What s3fs makes of a server's own failure, besides what its classes are named for."""


@contextmanager
def translated(
    tried: str, *, but: tuple[type[Exception], ...] = (), local: bool = False
) -> Iterator[None]:
    """Raise ours for whatever a file system raises; each kind of store has errors of its own.

    Args:
        tried: What was tried, as the start of a sentence.
        but: Passed on as they are.
        local: A disk, which no network stands before.

    Raises:
        EndpointDown: The store could not be reached, or failed by itself.
        CorpusError: Anything else.
    """
    try:
        yield
    except NemoflowsError:
        raise
    except Exception as error:
        if isinstance(error, but):
            raise
        found = f"{tried}: {type(error).__name__}: {error}."
        if not local and _is_passing(error):
            raise EndpointDown(f"{found} Check the endpoint and the network.") from error
        looked = "" if local else credentials(error)
        raise CorpusError(
            f"{found} {looked or 'Check the path, the space left there and the permissions.'}"
        ) from error


def _is_passing(error: Exception) -> bool:
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    return "Timeout" in names or "Connect" in names or getattr(error, "errno", None) in _PASSING


class Store(ABC):
    """A root folder or object-store prefix; names below it use `/`. Any thread may use it."""

    is_local: ClassVar[bool]
    root: str
    """As its file system spells it."""
    uri: str
    """As anybody opens it."""

    def path(self, name: str) -> str:
        """Return where `name` lies, as the file system spells it."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`; None where there is no such file."""
        tried = f"{self.path(name)} cannot be read"
        with suppress(*_MISSING), translated(tried, but=_MISSING, local=self.is_local):
            return self._read(name)
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; none where there is no such file."""
        yield from (self.read(name) or b"").splitlines()

    def write(self, name: str, data: bytes) -> None:
        """Write `data` under `name`, all of it or nothing."""
        tried = f"{self.path(name)} ({len(data):,} bytes) cannot be written"
        with translated(tried, local=self.is_local):
            self._write(name, data)

    def append(self, name: str, lines: bytes) -> bool:  # noqa: ARG002
        """Add to `name`, a name of this process alone; False where files cannot grow.

        Raises:
            OSError: Not all of it was written.
        """
        return False

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below `folder`, sorted; none where it is missing."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the lengths of all files below `folder` in bytes, by name."""
        return {name: size_bytes for name, (size_bytes, _) in self.listed(folder).items()}

    def listed(self, folder: str) -> dict[str, tuple[int, float]]:
        """Return lengths in bytes and times of the last change of all files below `folder`."""
        with translated(f"{self.path(folder)} cannot be listed", local=self.is_local):
            found, at = self._list(folder), len(self.root) + 1
        return {path[at:]: found[path] for path in found if not _is_temporary(path[at:])}

    @abstractmethod
    def touch(self, name: str) -> None:
        """Say that a file is in use, by the time of its change, where that may be done."""

    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""
        with translated(f"{self.path(name)} cannot be moved to {to}", local=self.is_local):
            self._move(name, to)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        tried = f"{self.path(name)} cannot be removed"
        with suppress(*_MISSING), translated(tried, but=_MISSING, local=self.is_local):
            self._remove(name)

    @contextmanager
    def folder(self, name: str, *, last: str) -> Iterator[Path]:
        """Hand out an empty local folder; what is put there appears as the folder `name`.

        Args:
            name: The folder; one that is there already stays as it is if it has `last`.
            last: The file that marks the folder as whole.
        """
        # Beside its final place where that is local: a rename must not cross file systems.
        parent = Path(self.path(name)).parent if self.is_local else Path(tempfile.gettempdir())
        work = parent / f"{_TEMPORARY}{uuid4().hex}"
        try:
            with translated(f"{self.path(name)} cannot be written", local=self.is_local):
                parent.mkdir(0o700, parents=True, exist_ok=True)
                work.mkdir(0o700)
                sweep(parent, f"{_TEMPORARY}*")
                yield work
                self._publish(work, name, last)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @abstractmethod
    def _read(self, name: str) -> bytes: ...
    @abstractmethod
    def _write(self, name: str, data: bytes) -> None: ...
    @abstractmethod
    def _list(self, folder: str) -> dict[str, tuple[int, float]]: ...
    @abstractmethod
    def _move(self, name: str, to: str) -> None: ...
    @abstractmethod
    def _remove(self, name: str) -> None: ...
    @abstractmethod
    def _publish(self, work: Path, name: str, last: str) -> None: ...


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
        whole = translated(tried, but=_MISSING, local=True)
        with suppress(*_MISSING), whole, self._opened(name) as file:
            yield from file

    def _opened(self, name: str) -> BinaryIO:
        fd = _descriptor(self.path(name), os.O_RDONLY | os.O_NONBLOCK | self._follow)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no file")
        return open(fd, "rb")  # noqa: PTH123  (as in `_write`)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path(name)
        work = f"{path.rpartition('/')[0]}/{_TEMPORARY}{uuid4().hex}"
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


def open_store(uri: str, *, bulk: bool = False) -> Store:
    """Return the store at a path or an fsspec URL; nothing is made there before a write.

    Args:
        uri: The root.
        bulk: It holds long files, as an index does.

    Raises:
        BadInput: The root has no name, or no kind of store is known by its scheme.
    """
    if not uri.strip():
        raise BadInput("The root has no name. Give a folder or an object-store prefix (s3://...).")
    if path := local_path(uri):
        close_to_others(path)
        return LocalStore(path, links=bulk)
    from nemoflows.storage.objects import ObjectStore

    return ObjectStore(uri, bulk=bulk)


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


def sweep(folder: Path, pattern: str = f"*/*/{_TEMPORARY}*") -> None:
    """Remove what processes that were killed long ago left; others may be sweeping too."""
    with suppress(OSError):
        for path in folder.glob(pattern):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_temporary(name: str) -> bool:
    return _TEMPORARY in name or name.endswith(_OLD_TEMPORARY)
