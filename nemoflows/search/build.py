"""Build an index: read what is new, embed what has no vectors, merge, mark as whole.

Killed at any instant and started again, a build goes on from the fragments that are there, and
nothing half written is ever served: see `store`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, BadReply, CorpusError
from nemoflows.search import fragments, layout, reading, segments
from nemoflows.search.catalogue import Catalogue
from nemoflows.search.corpus import Corpus, scan
from nemoflows.search.fragments import Entry
from nemoflows.search.layout import Known, Progress
from nemoflows.search.prune import prune_many
from nemoflows.search.vectors import require_lancedb
from nemoflows.storage.integrity import Damaged
from nemoflows.storage.loading import load_lazy_modules
from nemoflows.storage.opening import open_store
from nemoflows.storage.store import Store
from nemoflows.types import Index, Skipped

Vectors = NDArray[np.float32]
"""Shape (texts, dimensions), rows of length 1."""

Embed = Callable[[list[str]], Vectors]

EMBED_BATCH = 256
"""Passages embedded between two writes: what a killed build loses at most."""

_SHOWN_SKIPPED = 100


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
    build = _Build(store, corpus, scan(corpus), embed, embedder, report)
    try:
        read = build.read(build.base())
        name, manifest = build.made(read.fragments)
    except Damaged:
        fragments.drop_damaged(store)
        read = build.read([])
        name, manifest = build.made(read.fragments)
    prune_many(store)
    return Index(
        uri=f"{store.uri}/{layout.FOLDER}/{name}",
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


@dataclass
class _Build:
    store: Store
    name: str
    """Of the corpus, as it was given."""
    corpus: Corpus
    embed: Embed | None
    embedder: str
    report: Progress
    _base: Sequence[Known] = ()
    _known: dict[str, Known | None] = field(default_factory=dict)
    """By name what was looked at, which takes reading all of it."""

    def base(self) -> list[Known]:
        """Return the whole segments of the corpus' newest index."""
        name = self._notes().newest().get(self.embedder, "")
        folder = f"{layout.FOLDER}/{name}"
        manifest = segments.whole(self.store, folder) if name else None
        if manifest is None:
            return []
        self.store.touch(f"{folder}/{segments.MANIFEST}")
        found = map(self._segment, manifest["segments"])
        return [segment for segment in found if segment]

    def read(self, base: Sequence[Known]) -> reading.Read:
        """Read the corpus; what these segments hold is there."""
        self._base = base
        keys = {key for segment in base for key in segment.keys}
        read = reading.read(self.store, self.corpus, self._notes(), keys, self.report)
        if not read.fragments:
            raise _empty(self.name, read.skipped)
        return read

    def made(self, keys: list[str]) -> tuple[str, dict[str, Any]]:
        """Return name and manifest of the index of these fragments, made where need be.

        Raises:
            Damaged: A fragment or a segment is not what was written.
        """
        name = layout.address(self.embedder, keys)
        folder = f"{layout.FOLDER}/{name}"
        manifest = segments.whole(self.store, folder)
        if manifest and not all(map(self._segment, manifest["segments"])):
            self.store.remove(f"{folder}/{segments.MANIFEST}")
            manifest = None
        manifest = manifest or self._written(folder, keys)
        self._notes().save_newest(self.embedder, name)
        return name, manifest

    def _written(self, folder: str, keys: list[str]) -> dict[str, Any]:
        staying, new = layout.kept(self._base, keys)
        if self.embed is not None:
            _embed(self.store, new, self.embed, self.embedder, self.report)
        written = layout.written(self.store, new, self.embedder, self._segment, self.report)
        parts = [(segment.name, segment.keys) for segment in (*staying, *written)]
        sums = layout.summed([(self._small(name), own) for name, own in parts], keys)
        return layout.write(self.store, folder, self.embedder, [name for name, _ in parts], sums)

    def _notes(self) -> Catalogue:
        return Catalogue(self.store, self.corpus.uri)

    def _segment(self, name: str) -> Known | None:
        """Return a segment; None where it is missing or damaged."""
        if name not in self._known:
            manifest = segments.whole(self.store, f"{segments.FOLDER}/{name}")
            self._known[name] = None
            if manifest:
                keys = segments.keys_of(segments.array(self._small(name) / segments.FILES))
                self._known[name] = Known(name, keys, manifest["is_full"])
        return self._known[name]

    def _small(self, name: str) -> Path:
        """Return a local folder with the small files of a segment."""
        folder = f"{segments.FOLDER}/{name}"
        manifest = segments.read_manifest(self.store, folder)
        return segments.small_files(self.store, folder, manifest, segments.CACHE.expanduser())


def _empty(corpus: str, skipped: Sequence[Skipped]) -> CorpusError:
    reasons = "; ".join(f"{s.document}: {s.reason}" for s in skipped[:3])
    found = f"{len(skipped)} files were skipped ({reasons})" if skipped else "there are no files"
    return CorpusError(
        f"Nothing in the corpus {corpus!r} can be indexed: {found}. Give a folder, a file or an "
        "s3:// prefix with text, Markdown, HTML, PDF, source code or tables in it."
    )


def _embed(
    store: Store, keys: Sequence[str], embed: Embed, embedder: str, report: Progress
) -> None:
    """Embed the passages of all fragments that have no vectors, some fragments at a time."""
    there = reading.There(store, ())
    missing = [key for key in keys if not there.stored(key, embedder=embedder)]
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
