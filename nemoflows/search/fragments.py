"""What indexing one file yields, stored under the hash of all that decides it.

A fragment holds the file's documents and their passages with offsets and terms. The vectors of
its passages lie beside it, one file per embedder.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.language import terms as words_of_text
from nemoflows.language.terms import terms
from nemoflows.search import chunks, readers
from nemoflows.storage.integrity import Damaged, add_checksum, verify_checksum
from nemoflows.storage.store import Store

FOLDER = "fragments"
_NOTES = b"notes"
HEADING_WEIGHT = 3
"""A heading's terms count this often. Chosen on cranfield: nDCG@10 .336 at 0, .382 at 1, .389 at 2,
.393 at 3."""

_VERSIONS = (2, words_of_text.VERSION, readers.VERSION, chunks.VERSION)
SETTINGS = "/".join(map(str, (*_VERSIONS, chunks.TARGET_CHARS, HEADING_WEIGHT)))
"""Everything besides name and content that decides a fragment."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A passage as a fragment keeps it."""

    start: int
    end: int
    heading: str
    terms: list[str]


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
    suffix = "arrow"
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
                terms(chunk.heading or stem) * HEADING_WEIGHT
                + terms(document.text[chunk.start : chunk.end]),
            )
            for chunk in chunks.split(document.text, document.sections)
        ],
    )


def _packed(entries: Sequence[Entry], notes: str) -> bytes:
    import pyarrow as pa

    schema = _schema().with_metadata({_NOTES: notes})
    table = pa.Table.from_pylist([_record(entry) for entry in entries], schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    return add_checksum(sink.getvalue())


def save(store: Store, fragment: str, made: Made) -> None:
    """Write a fragment."""
    store.write(path(fragment), made.content)


def load(store: Store, fragment: str) -> list[Entry]:
    """Read a fragment.

    Raises:
        Damaged: It is not what was written.
    """
    import pyarrow as pa

    content = _verified(store, path(fragment))
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    return [
        Entry(row["document"], row["text"], [Stretch(**stretch) for stretch in row["stretches"]])
        for row in table.to_pylist()
    ]


def notes(store: Store, fragment: str) -> str:
    """Return what there was to note about a fragment's file, a line each.

    Raises:
        Damaged: It is not what was written.
    """
    import pyarrow as pa

    schema = pa.ipc.open_file(pa.BufferReader(_verified(store, path(fragment)))).schema
    return str((schema.metadata or {}).get(_NOTES, b"").decode())


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


def _record(entry: Entry) -> dict[str, Any]:
    stretches = [
        {"start": s.start, "end": s.end, "heading": s.heading, "terms": s.terms}
        for s in entry.stretches
    ]
    return {"document": entry.document, "text": entry.text, "stretches": stretches}


def _schema() -> Any:
    import pyarrow as pa

    stretch = pa.struct(
        [
            pa.field("start", pa.int64()),
            pa.field("end", pa.int64()),
            pa.field("heading", pa.string()),
            pa.field("terms", pa.list_(pa.string())),
        ]
    )
    return pa.schema(
        [
            pa.field("document", pa.string()),
            pa.field("text", pa.large_string()),
            pa.field("stretches", pa.list_(stretch)),
        ]
    )
