"""What the last build of a corpus found in each file, so that unchanged ones stay closed.

<root>/catalogues/<hash of corpus>.jsonl    a line per file, in the order of their names
<root>/catalogues/<hash of corpus>.json     the corpus, and its newest index by embedder
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence

from nemoflows.search import fragments
from nemoflows.search.corpus import File
from nemoflows.storage.store import Store

FOLDER = "catalogues"
_NO_NOTES = b'",""]\n'
"""How the line of a file ends that there is nothing to note on."""
_quoted = json.encoder.encode_basestring_ascii


class Catalogue:
    """The notes on one corpus. They only save work: broken ones count as none."""

    def __init__(self, store: Store, corpus_uri: str) -> None:
        corpus = hashlib.sha256(f"{fragments.SETTINGS}\n{corpus_uri}".encode()).hexdigest()
        self._store, self._corpus = store, corpus_uri
        self._path = f"{FOLDER}/{corpus}"
        self._new = io.BytesIO()

    def known(self, files: Sequence[File]) -> Iterator[tuple[File, str | None, str, bytes]]:
        """Yield files, each with the fragment's key, the notes and the line of the last build.

        The key is None where the file is not known as it is now.
        """
        lines = self._store.lines(f"{self._path}.jsonl")
        line = next(lines, b"")
        for file in files:
            start = _start(file)
            # Most lines are of a file that did not change: they are compared, not parsed.
            if not line.startswith(start):
                while line and _name(line) < file.name:
                    line = next(lines, b"")
            if file.signature and line.startswith(start):
                rest = line[len(start) :]
                if rest[65:] == _NO_NOTES:
                    yield file, rest[1:65].decode("ascii", "replace"), "", line
                else:
                    yield file, *_rest(rest), b""
                line = next(lines, b"")
            else:
                yield file, None, "", b""

    def put(self, file: File, key: str, notes: str, line: bytes = b"") -> None:
        """Note what this build found in the next file: the line of the last one, or a new one."""
        self._new.write(line or _start(file) + f'"{key}",{_quoted(notes)}]\n'.encode())

    def save(self) -> None:
        """Replace the last build's notes."""
        name = f"{self._path}.jsonl"
        if self._new.getbuffer() != (self._store.read(name) or b""):
            self._store.write(name, self._new.getvalue())

    def newest(self) -> dict[str, str]:
        """Return the addresses of the corpus' newest indexes by embedder."""
        found = newest(self._store.read(f"{self._path}.json"))
        return found[1] if found else {}

    def save_newest(self, embedder: str, index: str) -> None:
        """Note the newest index; that a build asked for it, where it is the same."""
        name, known = f"{self._path}.json", self.newest()
        if known.get(embedder) == index:
            self._store.touch(name)
            return
        told = {"corpus": self._corpus, "indexes": {**known, embedder: index}}
        self._store.write(name, json.dumps(told, indent=1).encode())


def newest(data: bytes | None) -> tuple[str, dict[str, str]] | None:
    """Return a corpus and its newest indexes, out of a catalogue's second file."""
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    match found:
        case {"corpus": str(corpus), "indexes": dict(indexes)}:
            return corpus, {k: v for k, v in indexes.items() if isinstance(v, str)}
    return None


def _start(file: File) -> bytes:
    """Return how the line of a file begins."""
    return f"[{_quoted(file.name)},{_quoted(file.signature)},".encode()


def _name(line: bytes) -> str:
    """Return the name of a line's file; of none of ours one that ends the search."""
    try:
        return str(json.loads(line)[0])
    except (ValueError, LookupError, TypeError, RecursionError):
        return "\U0010ffff"


def _rest(rest: bytes) -> tuple[str | None, str]:
    """Return key and notes; None where the line is none of ours."""
    try:
        match json.loads(b"[" + rest):
            case [str(found), str(notes)]:
                return found, notes
    except (ValueError, RecursionError):
        pass
    return None, ""
