"""Notice bytes that changed since they were written: a damaged file is never served as text.

**Not covered**: a local file that is cut short while it is mapped; the system ends the process.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

from nemoflows.errors import CorpusError
from nemoflows.storage.store import Store

_DIGEST_BYTES = hashlib.sha256().digest_size


class Damaged(CorpusError):
    """A file under the root is not what was written there."""


def add_checksum(content: bytes) -> bytes:
    """Return `content` with its SHA-256 before it."""
    return hashlib.sha256(content).digest() + content


def verify_checksum(data: bytes, name: str) -> bytes:
    """Return the content that a checksum was added to.

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


def sums(folder: Path) -> dict[str, list[int]]:
    """Return length in bytes and CRC-32 of every file below a local folder, by name."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _crc(path)] for path in paths
    }


def damaged(store: Store, folder: str, expected: Mapping[str, list[int]]) -> list[str]:
    """Return the files of a folder that are missing or have another content.

    An object store checks contents itself: there a missing file is all that can be wrong.
    """
    if not store.is_local:
        return wrong_sizes(store, folder, expected)
    found = sums(Path(store.path(folder)))
    return [name for name, known in expected.items() if found.get(name) != known]


def wrong_sizes(store: Store, folder: str, expected: Mapping[str, list[int]]) -> list[str]:
    """Return the files of a folder that are missing or have another length."""
    sizes, start = store.sizes(folder), f"{folder}/" if folder else ""
    return [name for name, (size, _) in expected.items() if sizes.get(f"{start}{name}") != size]


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc
