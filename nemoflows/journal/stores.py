"""Where the journal's bytes lie: a local folder, or a prefix of an object store.

A name is written whole or not at all: locally by a temporary file and a rename, in an object store
by one put, which is whole by the store's own promise.

Not covered: power loss (no fsync).
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from nemoflows.errors import BadInput, EndpointDown

CHUNK_BYTES = 1 << 20
_numbers = itertools.count(1)


class Store(Protocol):
    """Bytes by name, written whole; missing is None."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`."""

    def write(self, name: str, data: bytes) -> None:
        """Write `data` under `name`, all of it or nothing."""

    def append(self, name: str, lines: bytes) -> bool:
        """Add to `name`, a name of this process alone; False where names cannot grow."""

    def names(self, folder: str) -> list[str]:
        """Return every name below a folder, sorted; none where there is no such folder."""

    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""

    def remove(self, name: str) -> None:
        """Remove what lies under `name`."""


class LocalStore:
    """A folder, 0700; a write is a temporary file and a rename."""

    def __init__(self, root: Path) -> None:
        root = root.absolute()
        self.root = str(root)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadInput(
                f"The journal at {root} cannot be made: {error.strerror}. Set NEMOFLOWS_JOURNAL "
                "to a folder you can write, or to `off` to pay for every call again."
            ) from error
        self._made: set[str] = set()
        self._growing: dict[str, int] = {}
        self._torn: set[str] = set()
        """Names that end in half a line, so that the next one begins anew."""

    def read(self, name: str) -> bytes | None:
        """Return the file's bytes."""
        try:
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY)
            try:
                return b"".join(iter(lambda: os.read(fd, CHUNK_BYTES), b""))
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadInput(
                f"The journal at {self.root} cannot be read: {error.strerror}. Its files are "
                "private to whoever wrote them; give each user a root of their own."
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a temporary file beside `name` and rename it."""
        path = self._path(name)
        temporary = f"{path}.{os.getpid()}-{next(_numbers)}.tmp"
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.write(data)
            os.replace(temporary, path)  # noqa: PTH105  (a hot path; Path costs more than the call)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108  (as above)
            raise

    def append(self, name: str, lines: bytes) -> bool:
        """Append in one write to a file that stays open."""
        if name not in self._growing:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._growing[name] = _private(self._path(name), flags)
        whole = b"\n" + lines if name in self._torn else lines
        if os.write(self._growing[name], whole) < len(whole):
            self._torn.add(name)
            raise OSError("half a line was written")
        self._torn.discard(name)
        return True

    def names(self, folder: str) -> list[str]:
        """Return every file below a folder but the temporary ones."""
        found = (Path(self.root) / folder).rglob("*")
        files = (path for path in found if path.is_file() and path.suffix != ".tmp")
        return sorted(path.relative_to(self.root).as_posix() for path in files)

    def move(self, name: str, to: str) -> None:
        """Rename the file."""
        os.replace(self._path(name), self._path(to))  # noqa: PTH105  (as above)

    def remove(self, name: str) -> None:
        """Remove the file, if it is there."""
        Path(self._path(name)).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        folder = f"{self.root}/{name.rpartition('/')[0]}"
        if folder not in self._made:
            for parent in reversed([Path(folder), *Path(folder).parents]):
                if str(parent).startswith(self.root):
                    parent.mkdir(exist_ok=True, mode=0o700)
            self._made.add(folder)
        return f"{self.root}/{name}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class RemoteStore:
    """A prefix of an object store; a put is whole by the store's own promise."""

    def __init__(self, url: str) -> None:
        import fsspec

        # Records are small: s3fs would ask for each one's size first, to fetch it in pieces.
        options = {"max_concurrency": 1} if url.startswith("s3://") else {}
        self.fs, self.root = fsspec.core.url_to_fs(url, **options)

    def read(self, name: str) -> bytes | None:
        """Return the object's bytes.

        Raises:
            EndpointDown: The store does not answer: what was paid is unknown, so nothing is asked.
        """
        try:
            data: bytes = self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:
            raise EndpointDown(
                f"The journal at {self.root} does not answer ({type(error).__name__}). Whether a "
                "call was paid already is unknown, so none is made; started again, the run goes on."
            ) from error
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put the object."""
        self.fs.pipe_file(f"{self.root}/{name}", data)

    def append(self, name: str, lines: bytes) -> bool:  # noqa: ARG002  (the protocol's shape)
        """Refuse: objects cannot grow, so receipts are put as numbered segments."""
        return False

    def names(self, folder: str) -> list[str]:
        """Return every object below a prefix."""
        self.fs.invalidate_cache()
        found: list[str] = self.fs.find(f"{self.root}/{folder}")
        return sorted(path.removeprefix(f"{self.root}/") for path in found)

    def move(self, name: str, to: str) -> None:
        """Copy the object and remove the first one."""
        self.fs.mv(f"{self.root}/{name}", f"{self.root}/{to}")

    def remove(self, name: str) -> None:
        """Remove the object, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")


@cache
def open_store(root: str) -> Store:
    """Return the store at a path or an fsspec URL."""
    scheme, found, path = root.partition("://")
    if found and scheme not in {"file", "local"}:
        return RemoteStore(root)
    return LocalStore(Path(path if found else root).expanduser())
