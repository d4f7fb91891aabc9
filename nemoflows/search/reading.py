"""Read a corpus into fragments: what is new, what is known, what is left out and why."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeGuard

from nemoflows.errors import CorpusError
from nemoflows.search import fragments, readers
from nemoflows.search.catalogue import Catalogue, Part
from nemoflows.search.corpus import Corpus, File
from nemoflows.search.layout import Progress
from nemoflows.search.workers import Ended, Workers
from nemoflows.storage.store import Store
from nemoflows.types import Skipped

_REQUESTS = 16
"""To an object store at once."""

_OWN = re.compile(r"(?:fragments/[0-9a-f]{2}|indexes|segments|catalogues)/(?:[0-9a-f]{64}\b|\.)")
"""What builds write under a root, which may lie inside the corpus or around it."""


class _Result(NamedTuple):
    """What came of one file: a fragment's key, or why there is none."""

    fragment: str
    reason: str
    """Of a fragment that is there: notes on the file, a line each."""
    n_new: int = 0
    lasting: bool = True
    """Whether it holds as long as the file stays as it is; a failed read may be gone next time."""
    line: bytes = b""
    """What the notes of the last build say of it, where that holds."""


@dataclass(slots=True)
class Read:
    """What reading a corpus came to."""

    fragments: list[str] = field(default_factory=list)
    """Keys, in the order of the files' names."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    n_indexed: int = 0

    def add(self, name: str, result: _Result) -> None:
        """Add what came of the next file."""
        if result.fragment:
            self.fragments.append(result.fragment)
            for note in result.reason.split("\n") if result.reason else ():
                self.notes.append(Skipped(document=name, reason=note))
        else:
            self.skipped.append(Skipped(document=name, reason=result.reason))
        self.n_indexed += result.n_new


class There:
    """Which fragments need not be made: those in segments, and those that are stored."""

    def __init__(self, store: Store, in_segments: Collection[str]) -> None:
        self._store, self.in_segments = store, in_segments

    def all_merged(self, keys: Sequence[str | None]) -> TypeGuard[Sequence[str]]:
        """Tell whether segments have all of them."""
        return all(key in self.in_segments for key in keys)

    def has(self, key: str) -> bool:
        """Tell whether a segment has it, or it is stored."""
        return key in self.in_segments or self.stored(key)

    def stored(self, key: str, *, embedder: str | None = None) -> bool:
        """Tell whether a fragment, or its vectors by an embedder, are stored."""
        path = fragments.path(key, embedder=embedder)
        if self._store.is_local:
            return os.path.exists(self._store.path(path))  # noqa: PTH110  (a hot path)
        return path in self._listed

    @cached_property
    def _listed(self) -> set[str]:
        return set(self._store.names(fragments.FOLDER))


def read(
    store: Store, corpus: Corpus, notes: Catalogue, in_segments: Collection[str], report: Progress
) -> Read:
    """Make the fragments that are missing; a file whose signature is known is not even opened."""
    with closing(Workers()) as workers:
        made = _Reading(store, corpus, There(store, in_segments), workers)
        return _read(made, notes, report)


def _read(reading: _Reading, notes: Catalogue, report: Progress) -> Read:
    found = Read(skipped=list(reading.corpus.skipped))
    files = _candidates(reading.store, reading.corpus, found)
    done = 0
    for part in notes.known(files):
        if part.is_known and reading.there.all_merged(part.keys):
            notes.keep(part)
            found.fragments.extend(part.keys)
            report("read", done + len(part.files), len(files))
        else:
            for number, (file, result) in enumerate(reading.each(part), start=done + 1):
                if result.lasting:
                    notes.put(file, result.fragment, result.reason, result.line)
                found.add(file.name, result)
                report("read", number, len(files))
        done += len(part.files)
    notes.save()
    found.skipped.sort(key=lambda skipped: skipped.document)
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    store: Store
    corpus: Corpus
    there: There
    workers: Workers

    def each(self, part: Part) -> Iterator[tuple[File, _Result]]:
        """Yield files and results in order; where one end is remote, many are under way."""
        known = zip(part.files, part.keys, part.notes, part.lines, strict=True)
        if self.store.is_local and self.corpus.filesystem is None:
            yield from map(self._one, known)
            return
        with ThreadPoolExecutor(_REQUESTS) as pool:
            yield from pool.map(self._one, known)

    def _one(self, each: tuple[File, str | None, str, bytes]) -> tuple[File, _Result]:
        file, key, reason, line = each
        if key is not None and (key in self.there.in_segments or not key or self.there.has(key)):
            return file, _Result(key, reason, 0, True, line)
        return file, self._fragment(file)

    def _fragment(self, file: File) -> _Result:
        """Return what came of one file: a fragment, new or there already, or why there is none."""
        try:
            data = self.corpus.read(file, limit_bytes=readers.limit_bytes(file.name))
        except CorpusError as error:
            return _Result("", error.message, lasting=False)
        key = fragments.key(file.name, data)
        # Most files can have no notes; those of others are in the fragment alone.
        plain = data.isascii() and not readers.is_table(file.name)
        if plain and self.there.has(key):
            return _Result(key, "")
        if self.there.stored(key):
            return _Result(key, fragments.notes(self.store, key))
        return self._new(file, key, data)

    def _new(self, file: File, key: str, data: bytes) -> _Result:
        try:
            made = self.workers.make(file.name, data)
        except CorpusError as error:
            return _Result("", error.message, lasting=not isinstance(error, Ended))
        if not made.n_passages:
            return _Result("", "empty")
        fragments.save(self.store, key, made)
        return _Result(key, made.notes, n_new=made.n_documents)


def _candidates(store: Store, corpus: Corpus, read: Read) -> Sequence[File]:
    """Return the files to read: not the index's own, and none that is named like a row."""
    own = f"{os.path.realpath(store.root) if store.is_local else store.root}/"
    same_place = store.is_local == (corpus.filesystem is None)
    found: Sequence[File] = corpus.files
    top = f"{corpus.uri}/"
    if same_place and (not store.is_local or own.startswith(top) or top.startswith(own)):
        found = [f for f in found if not (f.path.startswith(own) and _OWN.match(f.path, len(own)))]
    if not any("#" in file.name for file in found):
        return found
    tables = {file.name for file in found if readers.is_table(file.name)}
    candidates = []
    for file in found:
        table, _, row = file.name.rpartition("#")
        if table in tables and row.isdecimal():
            reason = f"its name is that of a row of {table}; rename it"
            read.skipped.append(Skipped(document=file.name, reason=reason))
        else:
            candidates.append(file)
    return candidates
