"""Notice bytes that changed since they were written: a damaged file is never served as text.

**Not covered**: a local file that is cut short while it is mapped; the system ends the process.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from nemoflows.errors import CorpusError

_DIGEST_BYTES = hashlib.sha256().digest_size

Sums = dict[str, list[int]]
"""Per file of a folder: its length in bytes and the CRC-32 of its content."""


class Damaged(CorpusError):
    """A file under the root is not what was written there."""


def seal(content: bytes) -> bytes:
    """Return `content` with its SHA-256 before it."""
    return hashlib.sha256(content).digest() + content


def unseal(data: bytes, name: str) -> bytes:
    """Return what was sealed.

    Raises:
        Damaged: The content is not what its hash says; names the file.
    """
    content = data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != data[:_DIGEST_BYTES]:
        raise Damaged(
            f"{name} ({len(data)} bytes) is cut short or changed since it was written. "
            "Remove it and build the index again."
        )
    return content


def sums(folder: Path) -> Sums:
    """Return length and checksum of every file below `folder`, by name."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _crc(path)] for path in paths
    }


def wrong_sizes(folder: Path, expected: Mapping[str, list[int]]) -> Iterator[str]:
    """Yield the names of the files that are missing or have another length."""
    for name, (size_bytes, _) in expected.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size_bytes:
            yield name


def damaged(folder: Path, expected: Mapping[str, list[int]]) -> Iterator[str]:
    """Yield the names of files that are missing or have another content."""
    for name, (size_bytes, crc) in expected.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size_bytes or _crc(path) != crc:
            yield name


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc
