"""Open an index in place and search it.

  <root>/indexes/<corpus hash>/
    manifest.json         written last: without it the folder is no index; names the segments
    ranks-<hash>.npy      by segment and file its place among all of the index, -1 where it is gone
    copies-<hash>.npy     passages with the same text: the first one of it, another one

The rest lies in the segments (see `segments`), which indexes share. Local files are mapped. From
an object store, passages and texts are read stretch by stretch and the small files are fetched once
to a cache, each segment's once for all indexes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.language.terms import terms
from nemoflows.search import lexical, segments
from nemoflows.search.fusion import fuse
from nemoflows.search.layout import COPIES, FOLDER, RANKS, place
from nemoflows.search.segments import Segment, is_damaged, small_files
from nemoflows.storage.opening import open_store
from nemoflows.storage.store import Store
from nemoflows.types import Index, Passage

FUSION_DEPTH = 100
"""Passages of each leg that are fused, or `k` where that is more."""
MAX_ALSO = 20
"""Places named beside the first one of a text."""
TOUCHED_S = 3600.0
"""After so long a reader says again that it uses the index."""

Vector = NDArray[np.float32]


def open_index(index: Index | str, *, cache: str = str(segments.CACHE)) -> SearchIndex:
    """Open an index in place; nothing of it is loaded whole.

    Args:
        index: The index, or its uri.
        cache: Local folder for the small files of an index in an object store.

    Raises:
        BadInput: There is no whole index of this format at that place.
        CorpusError: Its files are damaged.
    """
    uri = index if isinstance(index, str) else index.uri
    root, _, name = uri.rstrip("/").rpartition(f"/{FOLDER}/")
    store = open_store(root or uri, bulk=True)
    folder = f"{FOLDER}/{name}"
    try:
        manifest = segments.read_manifest(store, folder)
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"There is no whole index at {uri!r} ({type(error).__name__} on {segments.MANIFEST}). "
            "Give the uri that build_index returned, or build it again."
        ) from error
    if manifest["format"] != segments.FORMAT:
        raise BadInput(
            f"The index at {uri!r} has format {manifest['format']}, this version reads "
            f"{segments.FORMAT}. Build it again with build_index."
        )
    try:
        return SearchIndex(store, folder, manifest, Path(cache).expanduser())
    except NemoflowsError:
        raise
    except Exception as error:
        # What reading changed bytes raises is up to numpy and lancedb.
        raise is_damaged(uri, f"{type(error).__name__}: {error}") from error


class SearchIndex:
    """An open index; any number of threads may ask at once."""

    def __init__(self, store: Store, folder: str, manifest: dict[str, Any], cache: Path) -> None:
        self.uri = f"{store.uri}/{folder}"
        self.embedder: str = manifest["embedder"]
        self._store, self._folder, self._touched_s = store, folder, 0.0
        self._n_passages: int = manifest["n_passages"]
        self._n_documents: int = manifest["n_documents"]
        self._n_bytes: int = manifest["n_bytes"]
        self._n_dimensions: int = manifest["n_dimensions"]
        own = small_files(store, folder, manifest, cache)
        ranks, self._copies = (
            segments.array(next(own / name for name in manifest["files"] if name.startswith(kind)))
            for kind in (RANKS, COPIES)
        )
        self._segments = list(_opened(store, manifest, ranks, self._copies, cache))
        self._dense: list[Any] = []
        if self._n_dimensions:
            from nemoflows.search.vectors import Dense

            self._dense = [Dense(f"{s.uri}/{segments.VECTORS}") for s in self._segments]
        self._touch()

    def search(self, query: str, k: int = 8, *, vector: Vector | None = None) -> list[Passage]:
        """Return the `k` best passages, best first; fewer where fewer share a term.

        Args:
            query: What to look for.
            k: How many passages at most.
            vector: The query's unit vector, of shape (dimensions,) or (1, dimensions); given, the
                lexical and the dense leg are fused by reciprocal rank.

        Raises:
            BadInput: `k` is below 1, or the vector does not fit the index.
        """
        if k < 1:
            raise BadInput(f"k is {k}; ask for at least one passage.")
        self._touch()
        if vector is None:
            return self._read(self._lexically(query, k))
        depth = max(FUSION_DEPTH, min(k, self._n_passages))
        legs = [self._lexically(query, depth), self._nearest(vector, depth)]
        rows = {hit[2]: hit[:2] for leg in legs for hit in leg}
        fused = fuse([[hit[2] for hit in leg] for leg in legs])[:k]
        return self._read([(*rows[at], at, score) for at, score in fused])

    def document_text(self, document: str) -> str:
        """Return the decoded text that the offsets refer to.

        Raises:
            BadInput: There is no such document.
        """
        for segment in self._segments:
            text = segment.document(document)
            if text is not None:
                return text
        raise BadInput(
            f"The index at {self.uri} has no document {document!r} among its {self._n_documents}. "
            "Ask for one that a passage names; if this is one, run build_index again."
        )

    @property
    def n_bytes(self) -> int:
        """Return the length of all documents' decoded texts together, in bytes of UTF-8."""
        return self._n_bytes

    def passages(self) -> list[Passage]:
        """Return every passage: documents by file name, each from its beginning to its end."""
        rows = [segment.live_rows() for segment in self._segments]
        scores = [np.zeros(len(some)) for some in rows]
        return self._read(_ranked(self._segments, zip(rows, scores, strict=True)))

    def _lexically(self, query: str, depth: int) -> list[_Hit]:
        try:
            scored = lexical.score(self._segments, terms(query), n_passages=self._n_passages)
            best = [lexical.top(some, depth) for some in scored]
            return _ranked(self._segments, best)[:depth]
        except (IndexError, ValueError, OverflowError) as error:
            raise is_damaged(self.uri, f"{lexical.POSTINGS}: {error}") from error

    def _nearest(self, vector: Vector, depth: int) -> list[_Hit]:
        flat = np.asarray(vector, dtype=np.float32).reshape(-1)
        if not self._dense or flat.size != self._n_dimensions:
            raise BadInput(
                f"A vector of {flat.size} dimensions does not fit the index at {self.uri}, whose "
                f"embedder is {self.embedder or 'none'} ({self._n_dimensions} dimensions). "
                "Embed the query with the embedder the index was built with."
            )
        tables = zip(self._dense, self._segments, strict=True)
        best = [dense.best(flat, depth, segment.live) for dense, segment in tables]
        return _ranked(self._segments, best)[:depth]

    def _read(self, hits: Sequence[_Hit]) -> list[Passage]:
        """Return passages; of each segment all are read at the same time."""
        also = [self._also(segment, row) for segment, row, _, _ in hits]
        wanted: dict[int, dict[int, Any]] = {}
        for segment, row in chain((hit[:2] for hit in hits), *also):
            wanted.setdefault(segment, {})[row] = None
        for segment, rows in wanted.items():
            records = self._segments[segment].passages.read(list(rows))
            for row, record in zip(rows, records, strict=True):
                rows[row] = json.loads(record.decode())
        return [
            Passage(
                **wanted[segment][row], score=score, also=[wanted[s][r]["id"] for s, r in copies]
            )
            for (segment, row, _, score), copies in zip(hits, also, strict=True)
        ]

    def _also(self, segment: int, row: int) -> list[tuple[int, int]]:
        if not len(self._copies):
            return []
        first = place(segment, row)
        start = int(np.searchsorted(self._copies[:, 0], first))
        copies = self._copies[start : start + MAX_ALSO]
        places = copies[copies[:, 0] == first, 1].tolist()
        return [(at >> 40, at & (2**40 - 1)) for at in places]

    def _touch(self) -> None:
        """Say that the index is in use, so that it is not removed."""
        if time.monotonic() - self._touched_s > TOUCHED_S or not self._touched_s:
            self._touched_s = time.monotonic()
            self._store.touch(f"{self._folder}/{segments.MANIFEST}")


_Hit = tuple[int, int, int, float]
"""Segment, row, place among all passages, score."""


def _ranked(parts: Sequence[Segment], found: Iterable[tuple[Any, Any]]) -> list[_Hit]:
    """Return rows and scores of all segments, best first, equal ones in the order of the files."""
    hits: list[_Hit] = []
    for number, (part, (rows, scores)) in enumerate(zip(parts, found, strict=True)):
        places = part.places(rows).tolist()
        hits += zip([number] * len(places), rows.tolist(), places, scores.tolist(), strict=True)
    return sorted(hits, key=lambda hit: (-hit[3], hit[2]))


def _opened(
    store: Store,
    manifest: dict[str, Any],
    ranks: NDArray[np.int32],
    copies: NDArray[np.int64],
    cache: Path,
) -> Iterator[Segment]:
    names, mean = manifest["segments"], manifest["n_terms"] / max(1, manifest["n_passages"])
    manifests = [segments.read_manifest(store, f"{segments.FOLDER}/{name}") for name in names]
    bounds = np.cumsum([0, *(manifest["n_files"] for manifest in manifests)]).tolist()
    bad = np.sort(copies[:, 1])
    for number, (name, (start, end)) in enumerate(zip(names, pairwise(bounds), strict=True)):
        small = small_files(store, f"{segments.FOLDER}/{name}", manifests[number], cache)
        first, last = np.searchsorted(bad, [place(number, 0), place(number + 1, 0)])
        rows = bad[first:last] - place(number, 0)
        yield Segment(store, name, small, ranks[start:end], rows, mean)
