"""Merge fragments into the arrays and records of one index."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.search import fragments, index, lexical
from nemoflows.search.fragments import Entry, Stretch
from nemoflows.storage.blobs import RecordWriter
from nemoflows.storage.integrity import Damaged, sums
from nemoflows.storage.store import Store

Progress = Callable[[str, int, int], None]
"""Called with the stage (read, embed, merge), what is done and what there is to do."""

MAX_ALSO = 20
"""Places named beside the first one of a text."""
LONG_CHARACTERS = 200
"""From here a text is the same whatever heading stands above it."""
_MARKS = re.compile(r"[*_`'\"\u2018\u2019\u201c\u201d,;:!?()|>]|[.](?=\s|$)")
"""Marks in which copies differ; signs of names (C++, 1.10) tell texts apart."""

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
        n_dimensions = _merge_vectors(store, work, keys, embedder, merged.kept) if embedder else 0
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
        self._places: dict[bytes, int] = {}
        self._also: dict[int, list[str]] = {}
        self.kept = array("b")
        """Per passage of the fragments, whether it is the first of its text."""
        self.n_passages = 0

    @property
    def n_documents(self) -> int:
        """Return how many documents there are so far."""
        return len(self._hashes)

    def add(self, entry: Entry) -> None:
        """Append a document and its passages, those left out whose text is there already."""
        new = [passage for passage in entry.stretches if self._is_new(entry, passage)]
        name = [entry.document, self.n_passages, len(new)]
        self._hashes.append((index.name_hash(entry.document), self.n_documents))
        self._names.add(_json(name))
        self._documents.add(entry.text.encode())
        for passage in new:
            record = {
                "id": _id(entry, passage),
                "document": entry.document,
                "start": passage.start,
                "end": passage.end,
                "text": entry.text[passage.start : passage.end],
                "heading": passage.heading,
            }
            self._passages.add(_json(record))
            self._lexical.add(passage.terms)
        self.n_passages += len(new)

    def _is_new(self, entry: Entry, passage: Stretch) -> bool:
        digest = _digest(passage.heading, entry.text[passage.start : passage.end])
        n_before = len(self._places)
        row = self._places.setdefault(digest, n_before)
        self.kept.append(row == n_before)
        if row == n_before:
            return True
        places = self._also.setdefault(row, [])
        if len(places) < MAX_ALSO:
            places.append(_id(entry, passage))
        return False

    def save(self) -> None:
        """Finish the files."""
        for rows in (self._passages, self._documents, self._names):
            rows.close()
        np.save(self._work / index.HASHES, np.array(sorted(self._hashes), dtype=np.int64))
        self._lexical.save(self._work / index.LEXICAL)
        (self._work / index.ALSO).write_text(json.dumps(self._also))


def _id(entry: Entry, passage: Stretch) -> str:
    return f"{entry.document}:{passage.start}-{passage.end}"


def _digest(heading: str, text: str) -> bytes:
    """Return what passages with the same words and signs have in common.

    A short text is about its heading, so that the same one below another heading is another.
    """
    said = " ".join(_MARKS.sub(" ", text).casefold().split())
    if len(said) < LONG_CHARACTERS:
        said = f"{heading.casefold()}\n{said}"
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=12).digest()


def _json(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _merge_vectors(
    store: Store, work: Path, keys: Sequence[str], embedder: str, kept: Sequence[int]
) -> int:
    """Write the vectors of the passages that are kept; return how many dimensions they have."""
    from nemoflows.search import vectors

    damages: list[Damaged] = []

    def parts() -> Iterator[NDArray[np.float32]]:
        at = 0
        for key in keys:
            try:
                found = fragments.load_vectors(store, key, embedder=embedder)
                yield found[np.asarray(kept[at : at + len(found)], dtype=bool)]
                at += len(found)
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
