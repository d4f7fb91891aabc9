"""Open an index in place and search it.

    <root>/indexes/<corpus hash>/
      manifest.json                     written last: without it the folder is no index
      passages.jsonl  .offsets.npy      one passage per record; where each starts, its CRC-32
      documents.txt   .offsets.npy      one document's decoded text per record
      names.jsonl     .offsets.npy      document, its first passage, how many it has
      names.hashes.npy                  hash of a name, record of that name; sorted
      lexical/                          bm25s's arrays
      vectors/                          LanceDB, where an embedder was named

Local files are mapped. From an object store, passages and texts are read stretch by stretch and
the small files are fetched once to a cache that the corpus hash addresses.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.language.terms import terms
from nemoflows.search.integrity import Damaged, wrong_sizes
from nemoflows.search.store import Mapped, Rows, Store, offsets_path
from nemoflows.types import Index, Passage

FORMAT = 2
"""Of the folder above; raised whenever an older reader would misread it."""

MANIFEST = "manifest.json"
PASSAGES = "passages.jsonl"
DOCUMENTS = "documents.txt"
NAMES = "names.jsonl"
HASHES = "names.hashes.npy"
LEXICAL = "lexical"
VECTORS = "vectors"

_MAX_DIGITS = 15
"""Of an offset in an id; Python refuses to read numbers of thousands of digits."""

FUSION_K = 60
"""Source: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion (SIGIR 2009)."""

FUSION_DEPTH = 100
"""Passages of each leg that are fused, or `k` where that is more."""

Vector = NDArray[np.float32]


def open_index(index: Index | str, *, cache: str = "~/.cache/nemoflows") -> SearchIndex:
    """Open an index in place; nothing of it is loaded whole.

    Args:
        index: The index, or its uri.
        cache: Local folder for the small files of an index in an object store.

    Raises:
        BadInput: There is no whole index of this format at that place.
        CorpusError: Its files are damaged.
    """
    uri = index if isinstance(index, str) else index.uri
    store = Store(uri)
    try:
        manifest = read_manifest(store, MANIFEST)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise BadInput(
            f"There is no whole index at {uri!r} ({type(error).__name__} on {MANIFEST}). "
            "Give the uri that build_index returned, or build it again."
        ) from error
    if manifest["format"] != FORMAT:
        raise BadInput(
            f"The index at {uri!r} has format {manifest['format']}, this version reads {FORMAT}. "
            "Build it again with build_index."
        )
    try:
        return SearchIndex(store, manifest, _local(store, manifest, Path(cache).expanduser()))
    except NemoflowsError:
        raise
    except Exception as error:
        # What reading changed bytes raises is up to numpy, bm25s and lancedb.
        raise _damaged(uri, f"{type(error).__name__}: {error}") from error


def read_manifest(store: Store, name: str) -> dict[str, Any]:
    """Return a manifest.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is none of ours.
    """
    manifest = json.loads(store.read(name))
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError(f"{name} is no manifest")
    return manifest


def _damaged(uri: str, found: str) -> Damaged:
    return Damaged(
        f"The index at {uri!r} is damaged ({found}). "
        "Run build_index again: it makes a damaged index anew."
    )


class SearchIndex:
    """An open index; any number of threads may ask at once."""

    def __init__(self, store: Store, manifest: dict[str, Any], small: Path) -> None:
        from nemoflows.search.lexical import Lexical

        self.uri = store.uri
        self.embedder: str = manifest["embedder"]
        self._n_dimensions: int = manifest["n_dimensions"]
        self._passages = Rows(store.blob(PASSAGES), _table(small / PASSAGES), name=PASSAGES)
        self._documents = Rows(store.blob(DOCUMENTS), _table(small / DOCUMENTS), name=DOCUMENTS)
        self._names = Rows(Mapped(small / NAMES), _table(small / NAMES), name=NAMES)
        self._hashes = np.load(small / HASHES, mmap_mode="r")
        self._lexical = Lexical(small / LEXICAL)
        self._dense = None
        if self._n_dimensions:
            from nemoflows.search.vectors import Dense

            self._dense = Dense(f"{store.uri}/{VECTORS}")

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
        if vector is None:
            rows, scores = self._lexically(query, k)
            return self._read(rows.tolist(), scores.tolist())
        depth = max(FUSION_DEPTH, min(k, len(self._passages)))
        lexical, _ = self._lexically(query, depth)
        fused = fuse((lexical.tolist(), self._nearest(vector, depth)))[:k]
        return self._read([row for row, _ in fused], [score for _, score in fused])

    def nearest(self, vector: Vector, k: int = 8) -> list[Passage]:
        """Return the `k` passages whose vectors are nearest: the dense leg alone."""
        if k < 1:
            raise BadInput(f"k is {k}; ask for at least one passage.")
        rows = self._nearest(vector, min(k, len(self._passages)))
        return self._read(rows, [1 / (FUSION_K + rank) for rank in range(1, len(rows) + 1)])

    def document_text(self, document: str) -> str:
        """Return the decoded text that the offsets refer to.

        Raises:
            BadInput: There is no such document.
        """
        row, _, _ = self._find(document)
        return self._documents.read([row])[0].decode()

    def passage(self, id: str) -> Passage:  # noqa: A002 - what the value calls it
        """Return the passage with that id.

        Raises:
            BadInput: There is no such passage.
        """
        document, _, span = id.rpartition(":")
        start = span.partition("-")[0]
        if start.isdecimal() and len(start) <= _MAX_DIGITS:
            _, first, n = self._find(document)
            row = bisect_left(range(first, first + n), int(start), key=self._start) + first
            if row < first + n and (found := self._read([row], [0.0])[0]).id == id:
                return found
        raise BadInput(
            f"The index at {self.uri} has no passage {id!r}. Ask with an id it returned."
        )

    @property
    def n_bytes(self) -> int:
        """Return the length of all documents' decoded texts together, in bytes of UTF-8."""
        return self._documents.n_bytes

    def passages(self) -> list[Passage]:
        """Return every passage: documents by file name, each from its beginning to its end."""
        rows = range(len(self._passages))
        return self._read(rows, [0.0] * len(rows))

    def documents(self) -> list[str]:
        """Return the names of all documents: by file name, rows of a table in their order."""
        return [json.loads(name)[0] for name in self._names.read(range(len(self._names)))]

    def _lexically(self, query: str, depth: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        try:
            return self._lexical.best(terms(query), depth)
        except (IndexError, ValueError) as error:
            raise _damaged(self.uri, f"{LEXICAL}: {error}") from error

    def _nearest(self, vector: Vector, depth: int) -> list[int]:
        flat = np.asarray(vector, dtype=np.float32).reshape(-1)
        if self._dense is None or flat.size != self._n_dimensions:
            raise BadInput(
                f"A vector of {flat.size} dimensions does not fit the index at {self.uri}, whose "
                f"embedder is {self.embedder or 'none'} ({self._n_dimensions} dimensions). "
                "Embed the query with the embedder the index was built with."
            )
        rows: list[int] = self._dense.best(flat, depth)[0].tolist()
        return rows

    def _read(self, rows: Sequence[int], scores: Sequence[float]) -> list[Passage]:
        records = map(json.loads, self._passages.read(rows))
        return [Passage(**record, score=s) for record, s in zip(records, scores, strict=True)]

    def _start(self, row: int) -> int:
        start: int = json.loads(self._passages.read([row])[0])["start"]
        return start

    def _find(self, document: str) -> tuple[int, int, int]:
        """Return a document's record, first passage and number of passages."""
        wanted = name_hash(document)
        at = int(np.searchsorted(self._hashes[:, 0], wanted))
        while at < len(self._hashes) and self._hashes[at, 0] == wanted:
            row = int(self._hashes[at, 1])
            name, first, n = json.loads(self._names.read([row])[0])
            if name == document:
                return row, first, n
            at += 1
        raise BadInput(
            f"The index at {self.uri} has no document {document!r} among its {len(self._names)}. "
            "documents() lists them; if it is among them, run build_index again."
        )


def fuse(rankings: Iterable[Sequence[int]]) -> list[tuple[int, float]]:
    """Return rows and scores by reciprocal rank, best first, ties by row.

    Source: Cormack, Clarke and Buettcher (SIGIR 2009): the sum of 1 / (60 + rank), ranks from 1.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0.0) + 1 / (FUSION_K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def name_hash(document: str) -> int:
    """Return the 64-bit number under which a document is looked up."""
    digest = hashlib.blake2b(document.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _table(blob: Path) -> NDArray[np.int64]:
    # A plain view of the mapped memory: a memmap's own subscripts cost microseconds each.
    return np.asarray(np.load(offsets_path(blob), mmap_mode="r"))


def _local(store: Store, manifest: dict[str, Any], cache: Path) -> Path:
    """Return a local folder that holds the index's small files, after a look at their lengths."""
    if store.is_local:
        if wrong := list(wrong_sizes(Path(store.root), manifest["files"])):
            raise _damaged(store.uri, f"{wrong[0]} is missing or cut short")
        return Path(store.root)
    folder = cache / "indexes" / str(manifest["corpus_hash"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a pod's home may be read-only
        folder = Path(tempfile.mkdtemp(prefix="nemoflows-index-"))
    small = {name: known for name, known in manifest["files"].items() if is_small(name)}
    for name in wrong_sizes(folder, small):
        _fetch(store, name, folder / name)
    return folder


def is_small(name: str) -> bool:
    """Tell whether a reader of an object store keeps that file locally."""
    return name not in {PASSAGES, DOCUMENTS} and not name.startswith(f"{VECTORS}/")


def _fetch(store: Store, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
        file.write(store.read(name))
    shutil.move(file.name, path)
