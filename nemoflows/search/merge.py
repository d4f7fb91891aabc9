"""Merge fragments into the arrays and records of one index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.search import fragments, index, lexical
from nemoflows.search.fragments import Entry
from nemoflows.storage.blobs import RecordWriter
from nemoflows.storage.integrity import Damaged, sums
from nemoflows.storage.store import Store

Progress = Callable[[str, int, int], None]
"""Called with the stage (read, embed, merge), what is done and what there is to do."""

SETTINGS = f"{index.FORMAT}/{lexical.K1}/{lexical.B}"
"""What decides an index besides its fragments and its embedder."""


def merge(
    store: Store, folder: str, keys: Sequence[str], embedder: str, report: Progress
) -> dict[str, Any]:
    """Write the index's folder, its manifest last; return the manifest.

    Raises:
        Damaged: A fragment is not what was written.
    """
    with store.folder(folder, last=index.MANIFEST) as work:
        merged = _Merge(work)
        for number, key in enumerate(keys, start=1):
            for entry in fragments.load(store, key):
                merged.add(entry)
            report("merge", number, len(keys))
        merged.save()
        n_dimensions = _merge_vectors(store, work, keys, embedder) if embedder else 0
        manifest = {
            "format": index.FORMAT,
            "corpus_hash": folder.rpartition("/")[2],
            "embedder": embedder,
            "n_dimensions": n_dimensions,
            "n_documents": merged.n_documents,
            "n_passages": merged.n_passages,
            "files": sums(work),
        }
        (work / index.MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


class _Merge:
    """Collects the entries of all fragments into the arrays and records of one index."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._passages = RecordWriter(work / index.PASSAGES)
        self._documents = RecordWriter(work / index.DOCUMENTS)
        self._names = RecordWriter(work / index.NAMES)
        self._hashes: list[tuple[int, int]] = []
        self._lexical = lexical.Writer()
        self.n_passages = 0

    @property
    def n_documents(self) -> int:
        """Return how many documents there are so far."""
        return len(self._hashes)

    def add(self, entry: Entry) -> None:
        """Append a document and its passages."""
        name = [entry.document, self.n_passages, len(entry.stretches)]
        self._hashes.append((index.name_hash(entry.document), self.n_documents))
        self._names.add(_json(name))
        self._documents.add(entry.text.encode())
        for passage in entry.stretches:
            record = {
                "id": f"{entry.document}:{passage.start}-{passage.end}",
                "document": entry.document,
                "start": passage.start,
                "end": passage.end,
                "text": entry.text[passage.start : passage.end],
                "heading": passage.heading,
            }
            self._passages.add(_json(record))
            self._lexical.add(passage.terms)
        self.n_passages += len(entry.stretches)

    def save(self) -> None:
        """Finish the files."""
        for rows in (self._passages, self._documents, self._names):
            rows.close()
        np.save(self._work / index.HASHES, np.array(sorted(self._hashes), dtype=np.int64))
        self._lexical.save(self._work / index.LEXICAL)


def _json(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _merge_vectors(store: Store, work: Path, keys: Sequence[str], embedder: str) -> int:
    """Write the vectors of all fragments and return how many dimensions they have."""
    from nemoflows.search import vectors

    damages: list[Damaged] = []

    def parts() -> Iterator[NDArray[np.float32]]:
        for key in keys:
            try:
                yield fragments.load_vectors(store, key, embedder=embedder)
            except Damaged as damage:
                damages.append(damage)
                raise

    n_dimensions = int(next(parts()).shape[1])
    try:
        vectors.write(str(work / index.VECTORS), parts(), n_dimensions=n_dimensions)
    except Exception as error:
        # Passing through lancedb, an error loses its kind.
        if damages:
            raise damages[0] from error
        raise
    return n_dimensions
