"""Remove what no index needs any more, once nobody has used it for a day.

An index is needed while it is the newest of its corpus, and the corpus is there (of a corpus or a
root in an object store: while one was built within 90 days). What is not needed stays for a day
after its last use: builds say that they use an index when they begin, readers of a local one when
they open it, and each once an hour. So nothing goes that a running process reads, on this machine
or another one that shares the root.

A build does this by itself where there are more than 16 indexes, once an hour at most.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from nemoflows.errors import NemoflowsError
from nemoflows.search import catalogue, fragments, layout, segments
from nemoflows.storage.filesystem import local_path
from nemoflows.storage.store import Store, sweep

UNUSED_S = 24 * 3600.0
REMOTE_S = 90 * 24 * 3600.0
MANY = 16
"""So many indexes stay whatever their age, unless pruning is asked for."""
_OFTEN_S = 3600.0
_MARK = f"{layout.FOLDER}/.pruned"
_FOLDERS = {
    catalogue.FOLDER: "catalogues of corpora",
    layout.FOLDER: "indexes",
    segments.FOLDER: "segments",
    fragments.FOLDER: "files of fragments",
}


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FOLDERS.values(), 0))
    n_bytes: int = 0


@dataclass(slots=True)
class _Files:
    """The files of one index, segment, catalogue or fragment."""

    names: list[str] = field(default_factory=list)
    n_bytes: int = 0
    changed_s: float = 0.0


def prune(store: Store, *, unused_s: float = UNUSED_S, dry_run: bool = False) -> Pruned:
    """Remove what no index needs and nobody has used for so long.

    Raises:
        CorpusError: The root cannot be listed or changed.
        EndpointDown: An object store does not answer.
    """
    before_s, pruned = time.time() - unused_s, Pruned()
    if store.is_local and not dry_run:
        sweep(Path(store.root))
    each = _Sweep(store, before_s, pruned, dry_run=dry_run)
    indexes = each.rest(layout.FOLDER, each.newest())
    needed = each.rest(segments.FOLDER, _segments(store, indexes))
    each.rest(fragments.FOLDER, _fragments(store, needed))
    return pruned


def prune_many(store: Store) -> None:
    """Prune where there are many indexes; whatever keeps it from that is the next one's matter."""
    with suppress(NemoflowsError):
        listed = store.listed(layout.FOLDER)
        last_s = listed.get(_MARK, (0, 0.0))[1]
        if len(_groups(listed)) > MANY and time.time() - last_s > _OFTEN_S:
            store.write(_MARK, b"")
            prune(store)


@dataclass(slots=True)
class _Sweep:
    store: Store
    before_s: float
    pruned: Pruned
    dry_run: bool

    def newest(self) -> set[str]:
        """Return the newest indexes of the corpora that are there; drop the other catalogues."""
        found = set()
        for name, files in _groups(self.store.listed(catalogue.FOLDER)).items():
            known = catalogue.newest(self.store.read(f"{name}.json"))
            if self._is_there(known[0] if known else "", files.changed_s):
                found |= {f"{layout.FOLDER}/{index}" for index in (known or ("", {}))[1].values()}
            elif files.changed_s < self.before_s:
                self._remove(catalogue.FOLDER, files)
        return found

    def _is_there(self, corpus: str, changed_s: float) -> bool:
        path = local_path(corpus) if corpus else None
        if path is None or not self.store.is_local:
            return bool(corpus) and time.time() - changed_s < REMOTE_S
        return path.exists()

    def rest(self, folder: str, needed: Iterable[str]) -> set[str]:
        """Remove what is not needed and old; return the names of what stays."""
        staying = set(needed)
        for name, files in _groups(self.store.listed(folder)).items():
            if name in staying:
                continue
            if files.changed_s >= self.before_s or self._is_used(name):
                staying.add(name)
            else:
                self._remove(folder, files)
        return staying

    def _is_used(self, name: str) -> bool:
        """Tell whether it came into use since it was listed."""
        if self.dry_run or name.startswith(f"{fragments.FOLDER}/"):
            return False
        return any(at >= self.before_s for _, at in self.store.listed(name).values())

    def _remove(self, folder: str, files: _Files) -> None:
        self.pruned.counts[_FOLDERS[folder]] += 1
        self.pruned.n_bytes += files.n_bytes
        if not self.dry_run:
            # What marks a folder as whole goes first.
            for name in sorted(files.names, key=lambda name: not name.endswith(segments.MANIFEST)):
                self.store.remove(name)
            if self.store.is_local:
                _remove_empty(self.store.path(files.names[0].rpartition("/")[0]))


def _groups(listed: dict[str, tuple[int, float]]) -> dict[str, _Files]:
    """Return files by what they belong to: folder and hash, as `indexes/<hash>`."""
    found: dict[str, _Files] = {}
    for name, (size_bytes, changed_s) in listed.items():
        parts = PurePosixPath(name).parts
        if parts[0] == fragments.FOLDER:
            group = f"{parts[0]}/{parts[-1].partition('.')[0]}"
        else:
            group = f"{parts[0]}/{parts[1].partition('.')[0]}"
        if name != _MARK:
            files = found.setdefault(group, _Files())
            files.names.append(name)
            files.n_bytes += size_bytes
            files.changed_s = max(files.changed_s, changed_s)
    return found


def _remove_empty(folder: str) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()


def _segments(store: Store, indexes: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for index in indexes:
        with suppress(FileNotFoundError, ValueError, KeyError):
            names = segments.read_manifest(store, index)["segments"]
            found |= {f"{segments.FOLDER}/{name}" for name in names}
    return found


def _fragments(store: Store, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        with suppress(ValueError):
            data = store.read(f"{name}/{segments.FILES}")
            keys = segments.keys_of(np.load(io.BytesIO(data))) if data else []
            found |= {f"{fragments.FOLDER}/{key}" for key in keys}
    return found
