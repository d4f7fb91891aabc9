"""Keep files under a root, local or in an object store: whole or not at all."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, CorpusError, EndpointDown, NemoflowsError
from nemoflows.search.integrity import Damaged

_TEMPORARY = ".tmp-nemoflows-"
_ABANDONED_S = 24 * 3600.0
"""A temporary file or folder older than this belongs to a build that was killed."""

_MISSING = (FileNotFoundError, NotADirectoryError)


@contextmanager
def translated(tried: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise ours for whatever a file system raises; each kind of store has errors of its own.

    Args:
        tried: What was tried, as the start of a sentence.
        but: Passed on as they are.

    Raises:
        EndpointDown: The store could not be reached.
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
        names = " ".join(kind.__name__ for kind in type(error).__mro__)
        if "Timeout" in names or "Connect" in names:
            raise EndpointDown(f"{found} Check the endpoint and the network.") from error
        raise CorpusError(
            f"{found} Check the path, the space left there, the permissions and the credentials."
        ) from error


class Store:
    """A root folder or object-store prefix; paths below it use `/`.

    Locally a file appears by renaming a temporary one, in an object store by one put: in both it
    is never seen half written.
    """

    def __init__(self, root: str) -> None:
        import fsspec

        if not root.strip():
            raise BadInput("The root has no name. Give a folder or an s3:// prefix for indexes.")
        self._filesystem: Any
        with translated(f"The root {root!r} cannot be used"):
            where = os.path.expanduser(root)  # noqa: PTH111 - a URL is no Path
            self._filesystem, path = fsspec.core.url_to_fs(where)
        self.is_local = "file" in np.atleast_1d(self._filesystem.protocol).tolist()
        self.root: str = path.rstrip("/")
        self.uri: str = self.root if self.is_local else self._filesystem.unstrip_protocol(self.root)

    def path(self, name: str) -> str:
        """Return where `name` lies, as the file system spells it."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Tell whether the file `name` is there."""
        with translated(f"{self.path(name)} cannot be looked up"):
            return bool(self._filesystem.isfile(self.path(name)))

    def names(self, folder: str) -> set[str]:
        """Return the names of all files below `folder`."""
        with translated(f"{self.path(folder)} cannot be listed"):
            self._filesystem.invalidate_cache()
            found: list[str] = self._filesystem.find(self.path(folder))
        return {path.removeprefix(self.root + "/") for path in found}

    def read(self, name: str) -> bytes:
        """Return a file's content; FileNotFoundError where there is none."""
        with translated(f"{self.path(name)} cannot be read", but=_MISSING):
            data: bytes = self._filesystem.cat_file(self.path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, over an older one if there is one."""
        with translated(f"{self.path(name)} ({len(data):,} bytes) cannot be written"):
            if self.is_local:
                _write(Path(self.path(name)), data)
            else:
                self._filesystem.pipe_file(self.path(name), data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with translated(f"{self.path(name)} cannot be removed"), suppress(FileNotFoundError):
            self._filesystem.rm_file(self.path(name))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the lengths of all files below `folder` in bytes, by name below it."""
        with translated(f"{self.path(folder)} cannot be listed"):
            found = self._filesystem.find(self.path(folder), detail=True)
        start = self.path(folder) + "/"
        return {path.removeprefix(start): int(info["size"]) for path, info in found.items()}

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
            with translated(f"The folder {self.path(name)} cannot be written"):
                work.mkdir(parents=True)
                _sweep(parent, f"{_TEMPORARY}*")
                if self.is_local:
                    _sweep(Path(self.root), f"*/*/{_TEMPORARY}*")
                yield work
                self._publish(work, name, last)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _publish(self, work: Path, name: str, last: str) -> None:
        if self.is_local:
            target = Path(self.path(name))
            if target.exists() and not (target / last).exists():
                shutil.rmtree(target, ignore_errors=True)
            try:
                work.rename(target)
            except OSError:
                if not (target / last).exists():
                    raise
                # Another build of the same content was first.
            return
        files = sorted(path for path in work.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == last):
            where = self.path(f"{name}/{path.relative_to(work).as_posix()}")
            self._filesystem.put_file(str(path), where)

    def blob(self, name: str) -> Blob:
        """Open a file for reading stretches of it."""
        if self.is_local:
            return Mapped(Path(self.path(name)))
        return _Remote(self._filesystem, self.path(name))


def _sweep(folder: Path, pattern: str) -> None:
    """Remove what builds that were killed long ago left; others may be sweeping too."""
    with suppress(OSError):
        for path in folder.glob(pattern):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f"{_TEMPORARY}{uuid4().hex}")
    try:
        work.write_bytes(data)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


class Blob(Protocol):
    """A file of which stretches are read."""

    def stretches(self, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Return the bytes from each start to its end."""


class Mapped:
    """A local file, mapped: only the pages that are read are in memory."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def stretches(self, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Return the bytes from each start to its end."""
        return [self._bytes[start:end] for start, end in zip(starts, ends, strict=True)]


class _Remote:
    """A file in an object store; stretches are fetched at the same time."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem = filesystem
        self._path = path

    def stretches(self, starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        """Return the bytes from each start to its end."""
        paths = [self._path] * len(starts)
        with translated(f"{len(starts)} stretches of {self._path} cannot be read"):
            # Left to itself, fsspec hands errors out among the bytes.
            found: list[bytes] = self._filesystem.cat_ranges(
                paths, list(starts), list(ends), on_error="raise"
            )
        return found


class Rows:
    """Records in one blob, read by number.

    Args:
        blob: The records, one after the other.
        table: Of shape (records + 1, 2): where each starts, and its checksum.
        name: Of the blob, for errors.
    """

    def __init__(self, blob: Blob, table: NDArray[np.int64], *, name: str) -> None:
        self._blob = blob
        self._table = table
        self._name = name

    def __len__(self) -> int:
        return len(self._table) - 1

    @property
    def n_bytes(self) -> int:
        """Return the length of all records together."""
        return int(self._table[-1, 0])

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the records with these numbers, in this order.

        Raises:
            Damaged: A record is not what was written, or there is none of that number.
        """
        if not numbers:
            return []
        if max(numbers) >= len(self):
            raise self._damaged(max(numbers))
        starts, crcs = self._table[numbers].T.tolist()
        ends = self._table[np.add(numbers, 1), 0].tolist()
        found = self._blob.stretches(starts, ends)
        for number, record, crc in zip(numbers, found, crcs, strict=True):
            if crc32(record) != crc:
                raise self._damaged(number)
        return found

    def _damaged(self, number: int) -> Damaged:
        return Damaged(
            f"Record {number} of {self._name} is not what was written there. "
            "Run build_index again: it makes a damaged index anew."
        )


class RowWriter:
    """Write records one by one; `close` adds the table that `Rows` reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._starts = [0]
        self._crcs: list[int] = []

    def add(self, record: bytes) -> None:
        """Append one record."""
        self._file.write(record)
        self._starts.append(self._starts[-1] + len(record))
        self._crcs.append(crc32(record))

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        table = np.array([self._starts, [*self._crcs, 0]], dtype=np.int64).T
        np.save(offsets_path(self._path), np.ascontiguousarray(table))


def offsets_path(path: Path) -> Path:
    """Return where the offsets of a blob lie."""
    return path.with_suffix(".offsets.npy")
