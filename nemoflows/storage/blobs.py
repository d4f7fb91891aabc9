"""Long files of which only some bytes are read, and records that lie in one, found by number."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nemoflows.storage.integrity import Damaged
from nemoflows.storage.objects import ObjectStore
from nemoflows.storage.store import Store, translated

MAPPED_BYTES = 2**18
"""A file up to here is read whole."""

Blob = Callable[[Sequence[int], Sequence[int]], list[bytes]]
"""Returns the bytes of one file from each start to its end."""


def open_blob(store: Store, name: str) -> Blob:
    """Open a file: a local one is mapped, of an object all ranges are fetched at the same time."""
    path = store.path(name)
    if not isinstance(store, ObjectStore):
        mapped = map_file(Path(path))
        return lambda starts, ends: [mapped[a:b] for a, b in zip(starts, ends, strict=True)]

    def fetch(starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
        with translated(f"{len(starts)} ranges of {path} cannot be read"):
            # Left to itself, fsspec hands errors out among the bytes.
            found: list[bytes] = store.fs.cat_ranges(
                [path] * len(starts), list(starts), list(ends), on_error="raise"
            )
        return found

    return fetch


def map_file(path: Path) -> bytes | mmap.mmap:
    """Return a file's content: mapped where it is long, read where it is short.

    Each mapped file holds a descriptor.
    """
    with path.open("rb") as file:
        if path.stat().st_size <= MAPPED_BYTES:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class RecordReader:
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
        found = self._blob(starts, ends)
        for number, record, crc in zip(numbers, found, crcs, strict=True):
            if crc32(record) != crc:
                raise self._damaged(number)
        return found

    def _damaged(self, number: int) -> Damaged:
        return Damaged(
            f"Record {number} of {self._name} is not what was written there. "
            "Run build_index again: it makes a damaged index anew."
        )


class RecordWriter:
    """Write records one by one; `close` adds the table that `RecordReader` reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._starts, self._crcs = array("q", [0]), array("q")

    def add(self, record: bytes) -> None:
        """Append one record."""
        self._file.write(record)
        self._starts.append(self._starts[-1] + len(record))
        self._crcs.append(crc32(record))

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        self._crcs.append(0)
        table = np.stack([np.frombuffer(a, np.int64) for a in (self._starts, self._crcs)], axis=1)
        np.save(offsets_path(self._path), table)


def offsets_path(path: Path) -> Path:
    """Return where the offsets of a blob lie."""
    return path.with_suffix(".offsets.npy")
