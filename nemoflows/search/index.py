"""Open an index in place and search it.

    <root>/indexes/<corpus hash>/
      manifest.json                     written last: without it the folder is no index
      passages.jsonl  .offsets.npy      one passage per record; where each starts, its CRC-32
      documents.txt   .offsets.npy      one document's decoded text per record
      names.jsonl     .offsets.npy      document, its first passage, how many it has
      names.hashes.npy                  hash of a name, record of that name; sorted
      also.json                         row of a passage to the other places of its text
      lexical/                          bm25s's arrays
      vectors/                          LanceDB, where an embedder was named

Local files are mapped. From an object store, passages and texts are read stretch by stretch and
the small files are fetched once to a cache that the corpus hash addresses.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.language.terms import terms
from nemoflows.search.fusion import fuse
from nemoflows.storage.blobs import RecordReader, offsets_path, open_blob
from nemoflows.storage.integrity import Damaged, wrong_sizes
from nemoflows.storage.store import Store, open_store
from nemoflows.types import Index, Passage

FORMAT = 3
"""Of the folder above; raised whenever an older reader would misread it."""

MANIFEST = "manifest.json"
PASSAGES = "passages.jsonl"
DOCUMENTS = "documents.txt"
NAMES = "names.jsonl"
HASHES = "names.hashes.npy"
ALSO = "also.json"
LEXICAL = "lexical"
VECTORS = "vectors"

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
    store = open_store(uri, bulk=True)
    try:
        manifest = read_manifest(store, MANIFEST)
    except (FileNotFoundError, ValueError) as error:
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
    data = store.read(name)
    if data is None:
        raise FileNotFoundError(name)
    manifest = json.loads(data)
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

    def __init__(self, store: Store, manifest: dict[str, Any], small: Store) -> None:
        from nemoflows.search.lexical import Lexical

        self.uri = store.uri
        self.embedder: str = manifest["embedder"]
        self._n_dimensions: int = manifest["n_dimensions"]
        self._passages = _records(store, PASSAGES, small)
        self._documents = _records(store, DOCUMENTS, small)
        self._names = _records(small, NAMES, small)
        self._hashes = np.load(small.path(HASHES), mmap_mode="r")
        self._also: dict[str, list[str]] = json.loads(small.read(ALSO) or b"{}")
        self._lexical = Lexical(Path(small.path(LEXICAL)))
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

    def document_text(self, document: str) -> str:
        """Return the decoded text that the offsets refer to.

        Raises:
            BadInput: There is no such document.
        """
        return self._documents.read([self._find(document)])[0].decode()

    @property
    def n_bytes(self) -> int:
        """Return the length of all documents' decoded texts together, in bytes of UTF-8."""
        return self._documents.n_bytes

    def passages(self) -> list[Passage]:
        """Return every passage: documents by file name, each from its beginning to its end."""
        rows = range(len(self._passages))
        return self._read(rows, [0.0] * len(rows))

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
        return [
            Passage(**record, score=score, also=self._also.get(str(row), []))
            for row, record, score in zip(rows, records, scores, strict=True)
        ]

    def _find(self, document: str) -> int:
        """Return the number of a document's record."""
        wanted = name_hash(document)
        at = int(np.searchsorted(self._hashes[:, 0], wanted))
        while at < len(self._hashes) and self._hashes[at, 0] == wanted:
            row = int(self._hashes[at, 1])
            if json.loads(self._names.read([row])[0])[0] == document:
                return row
            at += 1
        raise BadInput(
            f"The index at {self.uri} has no document {document!r} among its {len(self._names)}. "
            "Ask for one that a passage names; if this is one, run build_index again."
        )


def name_hash(document: str) -> int:
    """Return the 64-bit number under which a document is looked up."""
    digest = hashlib.blake2b(document.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _records(store: Store, name: str, small: Store) -> RecordReader:
    # A plain view of the mapped memory: a memmap's own subscripts cost microseconds each.
    table = np.asarray(np.load(offsets_path(Path(small.path(name))), mmap_mode="r"))
    return RecordReader(open_blob(store, name), table, name=name)


def _local(store: Store, manifest: dict[str, Any], cache: Path) -> Store:
    """Return a local folder that holds the index's small files, after a look at their lengths."""
    if store.is_local:
        if wrong := wrong_sizes(store, "", manifest["files"]):
            raise _damaged(store.uri, f"{wrong[0]} is missing or cut short")
        return store
    folder = cache / "indexes" / str(manifest["corpus_hash"])
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError:  # a pod's home may be read-only
        folder = Path(tempfile.mkdtemp(prefix="nemoflows-index-"))
    small = {name: known for name, known in manifest["files"].items() if is_small(name)}
    local = open_store(str(folder), bulk=True)
    for name in wrong_sizes(local, "", small):
        data = store.read(name)
        if data is None:
            raise _damaged(store.uri, f"{name} is missing")
        local.write(name, data)
    return local


def is_small(name: str) -> bool:
    """Tell whether a reader of an object store keeps that file locally."""
    return name not in {PASSAGES, DOCUMENTS} and not name.startswith(f"{VECTORS}/")
