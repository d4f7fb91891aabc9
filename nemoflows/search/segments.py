"""A segment: the documents and passages of some files, with all that a search needs of them.

  <root>/segments/<hash>/
    manifest.json                     written last: without it the folder is no segment
    passages.jsonl  .offsets.npy      one passage per record; where each starts, its CRC-32
    documents.txt   .offsets.npy      one document's decoded text per record
    names.jsonl     .offsets.npy      document, its first passage, how many it has
    names.hashes.npy                  hash of a name, record of that name; sorted
    files.npy                         per file its first document, first passage, fragment's key
    passages.npy                      per passage the hash of its words, how many terms it has
    terms.txt terms.npy postings.npy  terms by their bytes; rows and counts of each
    vectors/                          LanceDB, where an embedder was named

A segment never changes. Which of its files and passages count is each index's own matter.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.search import lexical
from nemoflows.storage.blobs import MAPPED_BYTES, RecordReader, map_file, offsets_path, open_blob
from nemoflows.storage.integrity import Damaged, damaged, wrong_sizes
from nemoflows.storage.opening import open_store
from nemoflows.storage.store import Store

FORMAT = 4
"""Of segments and indexes; raised whenever an older reader would misread one."""

FOLDER = "segments"
MANIFEST = "manifest.json"
PASSAGES = "passages.jsonl"
DOCUMENTS = "documents.txt"
NAMES = "names.jsonl"
HASHES = "names.hashes.npy"
FILES = "files.npy"
ROWS = "passages.npy"
VECTORS = "vectors"

CACHE = Path("~/.cache/nemoflows")
"""Where the small files of an index in an object store are kept, by default."""

_KEY_COLUMNS = 4


def with_checksum(manifest: dict[str, Any]) -> bytes:
    """Return a manifest's bytes."""
    return json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1).encode()


def read_manifest(store: Store, folder: str) -> dict[str, Any]:
    """Return the manifest of a segment or an index.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is none of ours, or changed.
    """
    name = f"{folder}/{MANIFEST}"
    data = store.read(name)
    if data is None:
        raise FileNotFoundError(name)
    manifest = json.loads(data)
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError(f"{name} is no manifest")
    if manifest["format"] == FORMAT and manifest.pop("checksum", "") != _checksum(manifest):
        raise ValueError(f"{name} changed since it was written")
    return manifest


def whole(store: Store, folder: str) -> dict[str, Any] | None:
    """Return the manifest of what is there undamaged; else see that nothing is in the way."""
    try:
        manifest = read_manifest(store, folder)
        wrong = manifest["format"] != FORMAT or damaged(store, folder, manifest["files"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        wrong = True
    if not wrong:
        return manifest
    store.remove(f"{folder}/{MANIFEST}")
    return None


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


class Segment:
    """An open segment, and which of its passages count in the index that opened it.

    Args:
        store: Of the root.
        name: Of the segment.
        small: Folder that holds its small files.
        ranks: By file the place of its name among all of the index; -1 where it is gone.
        copies: Rows whose text stands elsewhere before.
        mean: Length of a passage of the index, in terms.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        small: Path,
        ranks: NDArray[np.int32],
        copies: NDArray[np.int64],
        mean: float,
    ) -> None:
        folder = f"{FOLDER}/{name}"
        self.uri = f"{store.uri}/{folder}"
        self.passages = _records(store, f"{folder}/{PASSAGES}", small / PASSAGES)
        self.documents = _records(store, f"{folder}/{DOCUMENTS}", small / DOCUMENTS)
        self._names = _records(store, f"{folder}/{NAMES}", small / NAMES)
        self._hashes = array(small / HASHES)
        self._files = array(small / FILES)
        self._rows, self._mean = array(small / ROWS), mean
        self.lexical = lexical.Postings(
            map_file(small / lexical.WORDS),
            array(small / lexical.TERMS),
            array(small / lexical.POSTINGS),
        )
        self._ranks = ranks
        self.live: NDArray[np.bool_] | None = None
        """By row whether a passage counts; None where all do."""
        if len(copies) or (ranks < 0).any():
            self.live = np.repeat(ranks >= 0, np.diff(self._files[:, 1]))
            self.live[copies] = False

    @cached_property
    def norms(self) -> lexical.Scores:
        """Return what its length makes of each passage, by row."""
        return lexical.norms(self._rows[:, 2], self._mean)

    def places(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return numbers by which passages are in the order of files, and in a file's own."""
        files = np.searchsorted(self._files[:, 1], rows, "right") - 1
        places: NDArray[np.int64] = self._ranks[files].astype(np.int64) << 32
        places += rows - self._files[files, 1]
        return places

    def live_rows(self) -> lexical.Rows:
        """Return the rows of the passages that count."""
        return np.arange(len(self.passages)) if self.live is None else np.flatnonzero(self.live)

    def document(self, name: str) -> str | None:
        """Return a document's text; None where there is none of that name."""
        wanted = name_hash(name)
        at = int(np.searchsorted(self._hashes[:, 0], wanted))
        while at < len(self._hashes) and self._hashes[at, 0] == wanted:
            row = int(self._hashes[at, 1])
            file = int(np.searchsorted(self._files[:, 0], row, "right")) - 1
            if self._ranks[file] >= 0 and json.loads(self._names.read([row])[0])[0] == name:
                return self.documents.read([row])[0].decode()
            at += 1
        return None


def keys_of(files: NDArray[np.int64]) -> list[str]:
    """Return the keys of the fragments that a segment was made of."""
    data = np.ascontiguousarray(files[:-1, 2 : 2 + _KEY_COLUMNS]).tobytes().hex()
    return [data[at : at + 64] for at in range(0, len(data), 64)]


def files_table(firsts: Sequence[int], keys: Sequence[str]) -> NDArray[np.int64]:
    """Return what `files.npy` holds; of firsts there are two more than of two to each key."""
    words = np.frombuffer(bytes.fromhex("".join(keys)), np.int64).reshape(-1, _KEY_COLUMNS)
    ended = np.vstack([words, np.zeros((1, _KEY_COLUMNS), np.int64)])
    return np.hstack([np.array(firsts, np.int64).reshape(-1, 2), ended])


def name_hash(document: str) -> int:
    """Return the 64-bit number under which a document is looked up."""
    digest = hashlib.blake2b(document.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def is_small(name: str) -> bool:
    """Tell whether a reader of an object store keeps that file locally."""
    return name not in {PASSAGES, DOCUMENTS} and not name.startswith(f"{VECTORS}/")


def array(path: Path) -> NDArray[Any]:
    """Return an array; a long one is mapped."""
    long = path.stat().st_size > MAPPED_BYTES
    # A plain view of the mapped memory: a memmap's own subscripts cost microseconds each.
    return np.asarray(np.load(path, mmap_mode="r" if long else None))


def small_files(store: Store, folder: str, manifest: dict[str, Any], cache: Path) -> Path:
    """Return a local folder that holds the small files of a segment or an index.

    Raises:
        Damaged: One is missing or cut short.
    """
    files: dict[str, list[int]] = manifest["files"]
    if store.is_local:
        if wrong := wrong_sizes(store, folder, files):
            raise is_damaged(f"{store.uri}/{folder}", f"{wrong[0]} is missing or cut short")
        return Path(store.path(folder))
    local = open_store(str(_writable(cache / folder)), bulk=True)
    for name in wrong_sizes(local, "", {name: files[name] for name in files if is_small(name)}):
        data = store.read(f"{folder}/{name}")
        if data is None:
            raise is_damaged(f"{store.uri}/{folder}", f"{name} is missing")
        local.write(name, data)
    return Path(local.root)


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError:  # a pod's home may be read-only
        return Path(tempfile.mkdtemp(prefix="nemoflows-index-"))
    return folder


def is_damaged(uri: str, found: str) -> Damaged:
    """Return the error of an index or a segment that is not what was written."""
    return Damaged(
        f"The index at {uri!r} is damaged ({found}). "
        "Run build_index again: it makes a damaged index anew."
    )


def _records(store: Store, name: str, small: Path) -> RecordReader:
    return RecordReader(open_blob(store, name), array(offsets_path(small)), name=name)
