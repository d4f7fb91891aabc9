"""Build an index: read what is new, embed what has no vectors, merge, mark as whole.

Killed at any instant and started again, a build goes on from the fragments that are there, and
nothing half written is ever served: see `store`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, BadReply, CorpusError
from nemoflows.search import fragments, index, readers
from nemoflows.search.catalogue import Catalogue
from nemoflows.search.corpus import Corpus, File, scan
from nemoflows.search.fragments import Entry
from nemoflows.search.merge import SETTINGS, Progress, merge
from nemoflows.search.vectors import require_lancedb
from nemoflows.search.workers import Ended, Workers
from nemoflows.storage.integrity import Damaged, damaged
from nemoflows.storage.loading import load_lazy_modules
from nemoflows.storage.store import Store, open_store
from nemoflows.types import Index, Skipped

Vectors = NDArray[np.float32]
"""Shape (texts, dimensions), rows of length 1."""

Embed = Callable[[list[str]], Vectors]

EMBED_BATCH = 256
"""Passages embedded between two writes: what a killed build loses at most."""

_REQUESTS = 16
"""To an object store at once."""

_SHOWN_SKIPPED = 100

_OWN = re.compile(r"(?:fragments/[0-9a-f]{2}|indexes|catalogues)/(?:[0-9a-f]{64}\b|\.)")
"""What builds write under a root, which may lie inside the corpus or around it."""


def build_index(
    corpus: str,
    root: str,
    *,
    embed: Embed | None = None,
    embedder: str = "",
    progress: Progress | None = None,
) -> Index:
    """Index a corpus under `root`, reusing whatever is there already.

    Args:
        corpus: Folder, file or object-store prefix.
        root: Folder or object-store prefix that holds indexes and their fragments.
        embed: Turns texts into unit vectors; None leaves the dense leg out.
        embedder: Spelling of the model behind `embed`, part of the index's address.
        progress: Told what is done.

    Raises:
        CorpusError: The corpus is missing, empty or unreadable, or the root cannot be written.
        BadInput: Only one of `embed` and `embedder` is given.
        BadModel: Vectors are asked for and LanceDB is not installed.
        EndpointDown: An object store does not answer.
    """
    if (embed is None) != (not embedder):
        raise BadInput("Give both embed and embedder, or neither: the address names the model.")
    load_lazy_modules()
    if embedder:
        require_lancedb()
    report = progress or (lambda stage, done, total: None)  # noqa: ARG005
    store = open_store(root, bulk=True)
    files = scan(corpus)
    read = _read(store, files, report)
    if not read.fragments:
        raise _empty(corpus, read.skipped)
    try:
        folder, manifest = _made(store, read.fragments, embed, embedder, report)
    except Damaged:
        fragments.drop_damaged(store)
        read = _read(store, files, report)
        folder, manifest = _made(store, read.fragments, embed, embedder, report)
    return Index(
        uri=f"{store.uri}/{folder}",
        corpus=corpus,
        corpus_hash=manifest["corpus_hash"],
        embedder=embedder,
        n_documents=manifest["n_documents"],
        n_passages=manifest["n_passages"],
        n_indexed=read.n_indexed,
        skipped=read.skipped[:_SHOWN_SKIPPED],
        n_skipped=len(read.skipped),
        notes=read.notes[:_SHOWN_SKIPPED],
    )


def _made(
    store: Store, keys: Sequence[str], embed: Embed | None, embedder: str, report: Progress
) -> tuple[str, dict[str, Any]]:
    """Return the folder and the manifest of the index of these fragments, made where need be.

    Raises:
        Damaged: A fragment is not what was written.
    """
    folder = f"indexes/{_hash(keys, embedder)}"
    manifest = _whole(store, folder)
    if manifest is None:
        if embed is not None:
            _embed(store, keys, embed, embedder, report)
        manifest = merge(store, folder, keys, embedder, report)
    return folder, manifest


def _whole(store: Store, folder: str) -> dict[str, Any] | None:
    """Return the manifest of an index that is there undamaged; else see that none is in the way."""
    name = f"{folder}/{index.MANIFEST}"
    try:
        manifest = index.read_manifest(store, name)
        wrong = damaged(store, folder, manifest["files"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        wrong = [index.MANIFEST]
    if not wrong:
        return manifest
    store.remove(name)
    return None


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of one file: a fragment's key, or why there is none."""

    fragment: str
    reason: str
    """Of a fragment that is there: notes on the file, a line each."""
    n_new: int = 0
    lasting: bool = True
    """Whether it holds as long as the file stays as it is; a failed read may be gone next time."""


@dataclass(slots=True)
class _Read:
    """What reading a corpus came to."""

    fragments: list[str] = field(default_factory=list)
    """Keys, in the order of the files' names."""
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    n_indexed: int = 0


def _read(store: Store, corpus: Corpus, report: Progress) -> _Read:
    """Make the fragments that are missing; a file whose signature is known is not even opened."""
    with closing(Workers()) as workers:
        return _read_by(workers, store, corpus, report)


def _read_by(workers: Workers, store: Store, corpus: Corpus, report: Progress) -> _Read:
    catalogue = Catalogue(store, corpus.uri)
    there = set(store.names(fragments.FOLDER))
    read = _Read(skipped=list(corpus.skipped))
    files = _candidates(store, corpus, read)

    def one(file: File) -> _Result:
        known = catalogue.get(file)
        if known is not None and (not known[0] or fragments.path(known[0]) in there):
            return _Result(*known)
        return _fragment(store, corpus, file, there, workers)

    for number, (file, result) in enumerate(_each(one, files, store, corpus), start=1):
        if result.lasting:
            catalogue.put(file, (result.fragment, result.reason))
        if result.fragment:
            read.fragments.append(result.fragment)
            read.notes += [
                Skipped(document=file.name, reason=n) for n in result.reason.split("\n") if n
            ]
        else:
            read.skipped.append(Skipped(document=file.name, reason=result.reason))
        read.n_indexed += result.n_new
        report("read", number, len(files))
    catalogue.save()
    read.skipped.sort(key=lambda skipped: skipped.document)
    return read


def _each(
    one: Callable[[File], _Result], files: Sequence[File], store: Store, corpus: Corpus
) -> Iterator[tuple[File, _Result]]:
    """Yield files and results in order; where one end is remote, many requests are under way."""
    if store.is_local and corpus.filesystem is None:
        yield from ((file, one(file)) for file in files)
        return
    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield from zip(files, pool.map(one, files), strict=True)


def _fragment(
    store: Store, corpus: Corpus, file: File, there: set[str], workers: Workers
) -> _Result:
    """Return what came of one file: a fragment, new or there already, or why there is none."""
    try:
        data = corpus.read(file, limit_bytes=readers.limit_bytes(file.name))
    except CorpusError as error:
        return _Result("", error.message, lasting=False)
    key = fragments.key(file.name, data)
    if fragments.path(key) in there:
        return _Result(key, _notes(store, key, file, data))
    try:
        made = workers.make(file.name, data)
    except CorpusError as error:
        return _Result("", error.message, lasting=not isinstance(error, Ended))
    if not made.n_passages:
        return _Result("", "empty")
    fragments.save(store, key, made)
    return _Result(key, made.notes, n_new=made.n_documents)


def _notes(store: Store, key: str, file: File, data: bytes) -> str:
    """Return the notes on a file whose fragment is there; most files can have none."""
    plain = data.isascii() and not readers.is_table(file.name)
    return "" if plain else fragments.notes(store, key)


def _candidates(store: Store, corpus: Corpus, read: _Read) -> list[File]:
    """Return the files to read: not the index's own, and none that is named like a row."""
    same_place = store.is_local == (corpus.filesystem is None)
    own = f"{os.path.realpath(store.root) if store.is_local else store.root}/"
    tables = {file.name for file in corpus.files if readers.is_table(file.name)}
    found = []
    for file in corpus.files:
        table, _, row = file.name.rpartition("#")
        if table in tables and row.isdecimal():
            reason = f"its name is that of a row of {table}; rename it"
            read.skipped.append(Skipped(document=file.name, reason=reason))
        elif not (
            same_place and file.path.startswith(own) and _OWN.match(file.path.removeprefix(own))
        ):
            found.append(file)
    return found


def _empty(corpus: str, skipped: Sequence[Skipped]) -> CorpusError:
    reasons = "; ".join(f"{s.document}: {s.reason}" for s in skipped[:3])
    found = f"{len(skipped)} files were skipped ({reasons})" if skipped else "there are no files"
    return CorpusError(
        f"Nothing in the corpus {corpus!r} can be indexed: {found}. Give a folder, a file or an "
        "s3:// prefix with text, Markdown, HTML, PDF, source code or tables in it."
    )


def _hash(keys: Sequence[str], embedder: str) -> str:
    return hashlib.sha256("\n".join((SETTINGS, embedder, *keys)).encode()).hexdigest()


def _embed(
    store: Store, keys: Sequence[str], embed: Embed, embedder: str, report: Progress
) -> None:
    """Embed the passages of all fragments that have no vectors, some fragments at a time."""
    there = set(store.names(fragments.FOLDER))
    missing = [key for key in keys if fragments.path(key, embedder=embedder) not in there]
    pending: list[tuple[str, list[str]]] = []
    for number, key in enumerate(missing, start=1):
        pending.append((key, _texts(fragments.load(store, key))))
        if number == len(missing) or sum(len(texts) for _, texts in pending) >= EMBED_BATCH:
            _embed_some(store, pending, embed, embedder)
            pending = []
            report("embed", number, len(missing))


def _texts(entries: Sequence[Entry]) -> list[str]:
    return [
        f"{passage.heading}\n{entry.text[passage.start : passage.end]}".strip()
        for entry in entries
        for passage in entry.stretches
    ]


def _embed_some(
    store: Store, pending: Sequence[tuple[str, list[str]]], embed: Embed, embedder: str
) -> None:
    texts = [text for _, some in pending for text in some]
    batches = [texts[at : at + EMBED_BATCH] for at in range(0, len(texts), EMBED_BATCH)]
    vectors = np.concatenate([_checked(embed(batch), batch, embedder) for batch in batches])
    at = 0
    for key, some in pending:
        own = vectors[at : at + len(some)]
        fragments.save_vectors(store, key, own, embedder=embedder)
        at += len(some)


def _checked(vectors: Vectors, texts: Sequence[str], embedder: str) -> Vectors:
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
        raise BadReply(
            f"{embedder} was asked for the vectors of {len(texts)} texts and gave an array of "
            f"shape {found.shape}, or one with values that are no numbers. Check the embedder."
        )
    return found
