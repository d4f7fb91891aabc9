"""What the last build of a corpus found in each file, so that unchanged ones stay closed."""

from __future__ import annotations

import hashlib
import json

from nemoflows.search import fragments
from nemoflows.search.corpus import File
from nemoflows.storage.store import Store


class Catalogue:
    """The notes on one corpus. They only save work: broken ones count as none."""

    def __init__(self, store: Store, corpus_uri: str) -> None:
        corpus = hashlib.sha256(f"{fragments.SETTINGS}\n{corpus_uri}".encode()).hexdigest()
        self._store = store
        self._path = f"catalogues/{corpus}.json"
        self._old: dict[str, list[object]] = _read(store, self._path)
        self._new: dict[str, list[object]] = {}

    def get(self, file: File) -> tuple[str, str] | None:
        """Return the fragment's key and the reason for skipping as of the last build."""
        match self._old.get(file.name):
            case [signature, str(key), str(reason)] if file.signature:
                return (key, reason) if signature == list(file.signature) else None
        return None

    def put(self, file: File, known: tuple[str, str]) -> None:
        """Note what this build found."""
        self._new[file.name] = [list(file.signature), *known]

    def save(self) -> None:
        """Replace the last build's notes."""
        if self._new != self._old:
            self._store.write(self._path, json.dumps(self._new, indent=0).encode())


def _read(store: Store, path: str) -> dict[str, list[object]]:
    try:
        found = json.loads(store.read(path) or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
