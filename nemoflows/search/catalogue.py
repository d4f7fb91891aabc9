"""What the last build of a corpus found in each file, so that unchanged ones stay closed.

<root>/catalogues/<hash of corpus>.jsonl    a line per file, in the order of their names
<root>/catalogues/<hash of corpus>.json     the corpus, and its newest index by embedder
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from nemoflows.search import fragments
from nemoflows.search.corpus import File
from nemoflows.storage.store import Store

FOLDER = "catalogues"
_NO_NOTES = b'",""]\n'
"""How the line of a file ends that there is nothing to note on."""
_quoted = json.encoder.encode_basestring_ascii
_PART = 500
"""Files that are compared with the last build's notes at once."""


class Part(NamedTuple):
    """Some files in order, each with the fragment's key, the notes and the line of the last build.

    The key is None where the file is not known as it is now.
    """

    files: Sequence[File]
    keys: Sequence[str | None]
    notes: Sequence[str]
    lines: Sequence[bytes]
    is_known: bool = False
    """Whether each is known as it is now, with nothing to note on it."""


class _Lines:
    """Lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._more, self._held = iter(lines), deque[bytes]()

    def next(self, n: int) -> list[bytes]:
        self._held.extend(islice(self._more, max(0, n - len(self._held))))
        return list(islice(self._held, n))

    def first(self) -> bytes:
        return (self.next(1) or [b""])[0]

    def take(self, n: int = 1) -> None:
        for _ in range(min(n, len(self._held))):
            self._held.popleft()


class Catalogue:
    """The notes on one corpus. They only save work: broken ones count as none."""

    def __init__(self, store: Store, corpus_uri: str) -> None:
        corpus = hashlib.sha256(f"{fragments.SETTINGS}\n{corpus_uri}".encode()).hexdigest()
        self._store, self._corpus = store, corpus_uri
        self._path = f"{FOLDER}/{corpus}"
        self._new = io.BytesIO()

    def known(self, files: Sequence[File]) -> Iterator[Part]:
        """Yield what the last build's notes say of the files, in their order."""
        lines = _Lines(self._store.lines(f"{self._path}.jsonl"))
        for at in range(0, len(files), _PART):
            part = files[at : at + _PART]
            if (same := _same(part, lines)) is not None:
                yield same
            else:
                keys, notes, known = zip(*_each(part, lines), strict=True)
                yield Part(part, keys, notes, known)

    def keep(self, part: Part) -> None:
        """Note that this build found the next files as the last one did."""
        self._new.write(b"".join(part.lines))

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


def _same(files: Sequence[File], lines: _Lines) -> Part | None:
    """Return a part that did not change: nearly all do not, so it is not looked at one by one."""
    found = lines.next(len(files))
    key, end = -len(_NO_NOTES) - 64, -len(_NO_NOTES)
    if (
        [line[: key - 1] for line in found] == [_start(file) for file in files]
        and all(file.signature for file in files)
        and all(line.endswith(_NO_NOTES) for line in found)
    ):
        lines.take(len(files))
        keys = [line[key:end].decode("ascii", "replace") for line in found]
        return Part(files, keys, [""] * len(files), found, is_known=True)
    return None


def _each(files: Sequence[File], lines: _Lines) -> Iterator[tuple[str | None, str, bytes]]:
    """Yield the key, the notes and the line of each file."""
    for file in files:
        start, line = _start(file), lines.first()
        # Most lines are of a file that did not change: they are compared, not parsed.
        while line and not line.startswith(start) and _name(line) < file.name:
            lines.take()
            line = lines.first()
        rest = line[len(start) :]
        if not line.startswith(start):
            yield None, "", b""
            continue
        lines.take()
        if not file.signature:
            yield None, "", b""
        elif rest[65:] == _NO_NOTES:
            yield rest[1:65].decode("ascii", "replace"), "", line
        else:
            yield *_rest(rest), b""


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
