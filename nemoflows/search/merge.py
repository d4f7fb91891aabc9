"""Merge fragments into one segment."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemoflows.search import fragments, lexical, segments
from nemoflows.search.fragments import Entry, Stretch
from nemoflows.storage.blobs import RecordWriter
from nemoflows.storage.integrity import Damaged, sums
from nemoflows.storage.store import Store

MAX_TERMS = 2**23
"""A segment with that many is full: it takes no further file, and bounds a build's memory (some
300 MiB at the end of a full one), whatever the corpus."""
LONG_CHARACTERS = 200
"""From here a text is the same whatever heading stands above it."""
_MARKS = re.compile(r"[*_`'\"\u2018\u2019\u201c\u201d,;:!?()|>]|[.](?=\s|$)")
"""Marks in which copies differ; signs of names (C++, 1.10) tell texts apart."""


def merge(store: Store, name: str, keys: Sequence[str], embedder: str) -> Iterator[str]:
    """Write a segment of the first of these fragments, its manifest last; yield each's key before.

    Raises:
        Damaged: A fragment is not what was written.
    """
    with store.folder(f"{segments.FOLDER}/{name}", last=segments.MANIFEST) as work:
        merged = _Merge(work)
        for key in keys:
            if merged.lexical.n_terms >= MAX_TERMS:
                break
            merged.add(key, fragments.load(store, key))
            yield key
        merged.save()
        taken = merged.keys
        n_dimensions = _merge_vectors(store, work, taken, embedder) if embedder else 0
        manifest = {
            "format": segments.FORMAT,
            "n_dimensions": n_dimensions,
            "n_files": len(taken),
            "is_full": merged.lexical.n_terms >= MAX_TERMS,
            "files": sums(work),
        }
        (work / segments.MANIFEST).write_bytes(segments.with_checksum(manifest))


class _Merge:
    """Collects the entries of fragments into the arrays and records of one segment."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._passages = RecordWriter(work / segments.PASSAGES)
        self._documents = RecordWriter(work / segments.DOCUMENTS)
        self._names = RecordWriter(work / segments.NAMES)
        self._hashes, self._firsts = array("q"), array("q")
        self._digests = bytearray()
        self.lexical = lexical.Writer()
        self.keys: list[str] = []

    def add(self, key: str, entries: Sequence[Entry]) -> None:
        """Append a file's documents and their passages."""
        self.keys.append(key)
        self._firsts.extend((len(self._hashes), len(self.lexical.lengths)))
        for entry in entries:
            name = [entry.document, len(self.lexical.lengths), len(entry.stretches)]
            self._hashes.append(segments.name_hash(entry.document))
            self._names.add(_json(name))
            self._documents.add(entry.text.encode())
            for passage in entry.stretches:
                self._add(entry, passage)

    def _add(self, entry: Entry, passage: Stretch) -> None:
        text = entry.text[passage.start : passage.end]
        record = {
            "id": f"{entry.document}:{passage.start}-{passage.end}",
            "document": entry.document,
            "start": passage.start,
            "end": passage.end,
            "text": text,
            "heading": passage.heading,
        }
        self._passages.add(_json(record))
        self._digests += _digest(passage.heading, text)
        self.lexical.add(passage.terms)

    def save(self) -> None:
        """Finish the files."""
        for rows in (self._passages, self._documents, self._names):
            rows.close()
        hashes = np.frombuffer(self._hashes, np.int64)
        order = np.argsort(hashes, kind="stable")
        np.save(self._work / segments.HASHES, np.stack([hashes[order], order], axis=1))
        firsts = [*self._firsts, len(hashes), len(self.lexical.lengths)]
        table = segments.files_table(firsts, self.keys)
        np.save(self._work / segments.FILES, table)
        digests = np.frombuffer(self._digests, np.int64).reshape(-1, 2)
        lengths = np.frombuffer(self.lexical.lengths, np.int64)[:, None]
        np.save(self._work / segments.ROWS, np.hstack([digests, lengths]))
        self.lexical.save(self._work)


def _digest(heading: str, text: str) -> bytes:
    """Return what passages with the same words and signs have in common.

    A short text is about its heading, so that the same one below another heading is another.
    """
    said = " ".join(_MARKS.sub(" ", text).casefold().split())
    if len(said) < LONG_CHARACTERS:
        said = f"{heading.casefold()}\n{said}"
    return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=16).digest()


def _json(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _merge_vectors(store: Store, work: Path, keys: Sequence[str], embedder: str) -> int:
    """Write the vectors of the passages; return how many dimensions they have."""
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
        vectors.write(str(work / segments.VECTORS), parts(), n_dimensions=n_dimensions)
    except Exception as error:
        # Passing through lancedb, an error loses its kind.
        if damages:
            raise damages[0] from error
        raise
    return n_dimensions
