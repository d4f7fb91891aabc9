"""What indexing one file yields, stored under the hash of all that decides it.

A fragment holds the file's documents and their passages with offsets and terms. The vectors of
its passages lie beside it, one file per embedder.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.language import boxes
from nemoflows.language import terms as words_of_text
from nemoflows.language.terms import terms
from nemoflows.search import chunks, readers
from nemoflows.storage.integrity import Damaged, add_checksum, verify_checksum
from nemoflows.storage.store import Store

FOLDER = "fragments"
_COMPRESSION = 1
"""zlib's fastest; a small file's fragment took 2 ms more as an Arrow file, to write and to read."""
HEADING_WEIGHT = 3
"""A heading's terms count this often. Chosen on cranfield: nDCG@10 .336 at 0, .382 at 1, .389 at 2,
.393 at 3."""

_VERSIONS = (4, words_of_text.VERSION, readers.VERSION, chunks.VERSION)
SETTINGS = "/".join(map(str, (*_VERSIONS, chunks.TARGET_CHARS, HEADING_WEIGHT)))
"""Everything besides name and content that decides a fragment."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A passage as a fragment keeps it."""

    start: int
    end: int
    heading: str
    words: str
    """The terms with a space between two; none has one in it. Many short texts are dear."""

    @property
    def terms(self) -> list[str]:
        """Return the terms, repeated ones as often as they are there."""
        return self.words.split()


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as a fragment keeps it."""

    document: str
    text: str
    stretches: list[Stretch]


@dataclass(frozen=True, slots=True)
class Made:
    """A fragment, ready to be written."""

    content: bytes
    n_documents: int
    n_passages: int
    notes: str
    """What there was to note about the file, a line each."""


def key(name: str, data: bytes) -> str:
    """Return the fragment's address: SHA-256 of settings, name and content."""
    content = hashlib.sha256(data).hexdigest()
    return hashlib.sha256("\n".join((SETTINGS, content, name)).encode()).hexdigest()


def path(fragment: str, *, embedder: str | None = None) -> str:
    """Return where a fragment, or its vectors by `embedder`, lies under the root."""
    suffix = "json.z"
    if embedder is not None:
        suffix = hashlib.sha256(embedder.encode()).hexdigest()[:16] + ".npy"
    return f"{FOLDER}/{fragment[:2]}/{fragment}.{suffix}"


def make(name: str, data: bytes) -> Made:
    """Read a file, cut its documents into passages and pack them.

    Raises:
        CorpusError: The file cannot be read as what its name says.
    """
    notes: list[str] = []
    entries = read(name, data, notes.append)
    said = "\n".join(" ".join(note.split()) for note in notes)
    return Made(_packed(entries, said), len(entries), sum(len(e.stretches) for e in entries), said)


def read(name: str, data: bytes, note: readers.Note) -> list[Entry]:
    """Return a file's documents, cut into passages.

    Args:
        note: Told what of the file was left out, and what had to be guessed.
    """
    return [_entry(document, name) for document in readers.documents(name, data, note)]


def _entry(document: readers.Document, name: str) -> Entry:
    # A text without any heading is at least about what its file is called.
    stem = "" if document.sections or document.name != name else PurePosixPath(name).stem
    return Entry(
        document.name,
        document.text,
        [
            Stretch(
                chunk.start,
                chunk.end,
                chunk.heading,
                " ".join(
                    terms(chunk.heading or stem) * HEADING_WEIGHT
                    + terms(document.text[chunk.start : chunk.end])
                    + _boxed(document.text[chunk.start : chunk.end])
                ),
            )
            for chunk in chunks.split(document.text, document.sections)
        ],
    )


def _boxed(text: str) -> list[str]:
    """Return by what words people ask for what boxes say by their signs."""
    return terms(boxes.WORDS) if boxes.BOX.search(text) and boxes.options(text) else []


def _packed(entries: Sequence[Entry], notes: str) -> bytes:
    documents = [
        [e.document, e.text, [[s.start, s.end, s.heading, s.words] for s in e.stretches]]
        for e in entries
    ]
    content = json.dumps({"notes": notes, "documents": documents}, separators=(",", ":"))
    return add_checksum(zlib.compress(content.encode(), _COMPRESSION))


def save(store: Store, fragment: str, made: Made) -> None:
    """Write a fragment."""
    store.write(path(fragment), made.content)


def load(store: Store, fragment: str) -> list[Entry]:
    """Read a fragment.

    Raises:
        Damaged: It is not what was written.
    """
    return [
        Entry(document, text, [Stretch(*stretch) for stretch in stretches])
        for document, text, stretches in _unpacked(store, fragment)["documents"]
    ]


def notes(store: Store, fragment: str) -> str:
    """Return what there was to note about a fragment's file, a line each.

    Raises:
        Damaged: It is not what was written.
    """
    return str(_unpacked(store, fragment)["notes"])


def _unpacked(store: Store, fragment: str) -> dict[str, Any]:
    content = _verified(store, path(fragment))
    found: dict[str, Any] = json.loads(zlib.decompress(content))
    return found


def save_vectors(
    store: Store, fragment: str, vectors: NDArray[np.float32], *, embedder: str
) -> None:
    """Write the vectors of a fragment's passages, in their order."""
    sink = io.BytesIO()
    np.save(sink, vectors)
    store.write(path(fragment, embedder=embedder), add_checksum(sink.getvalue()))


def load_vectors(store: Store, fragment: str, *, embedder: str) -> NDArray[np.float32]:
    """Read the vectors of a fragment's passages.

    Raises:
        Damaged: They are not what was written.
    """
    content = _verified(store, path(fragment, embedder=embedder))
    vectors: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    return vectors


def drop_damaged(store: Store) -> None:
    """Remove every fragment and every file of vectors that is not what was written."""
    for name in store.names(FOLDER):
        try:
            _verified(store, name)
        except Damaged:
            store.remove(name)


def _verified(store: Store, name: str) -> bytes:
    data = store.read(name)
    if data is None:
        raise Damaged(f"{store.path(name)} is gone since this build began. Build again.")
    return verify_checksum(data, store.path(name))
