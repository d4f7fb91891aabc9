"""A prefix of an object store as a root."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nemoflows.storage.filesystem import filesystem
from nemoflows.storage.store import Store, translated

_TOUCHED_S = 6 * 3600.0
"""So old an object says of itself that it is in use no more than this ago."""

_older: dict[str, str] = {}


def read_also(uri: str, older: str) -> None:
    """Have the store at `uri`, once it is opened, read what it lacks from an older place there."""
    _older[uri.rstrip("/")] = older


class ObjectStore(Store):
    """A prefix of an object store; a put is whole by the store's own promise."""

    is_local = False

    def __init__(self, uri: str, *, bulk: bool = False) -> None:
        """Take an fsspec URL, and whether its files are long."""
        with translated(f"The root {uri!r} cannot be used"):
            self.fs, path = filesystem(uri, bulk=bulk)
        self.root = path.rstrip("/")
        self.uri = self.fs.unstrip_protocol(self.root)

        older = _older.get(uri.rstrip("/"))
        self._older = ObjectStore(older) if older else None

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`, here or where an earlier version wrote."""
        found = super().read(name)
        return self._older.read(name) if found is None and self._older else found

    def has(self, folder: str) -> bool:
        """Return whether anything lies below `folder`; one request."""
        with translated(f"{self.path(folder)} cannot be looked at"):
            return bool(self.fs.exists(self.path(folder)))

    def _read(self, name: str) -> bytes:
        data: bytes = self.fs.cat_file(self.path(name))
        return data

    def _write(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(self.path(name), data)

    def _list(self, folder: str) -> dict[str, tuple[int, float]]:
        self.fs.invalidate_cache()  # another process may have written since
        found = self.fs.find(self.path(folder), detail=True)
        return {path: (int(info["size"]), _changed_s(info)) for path, info in found.items()}

    def touch(self, name: str) -> None:
        """Write it again, but seldom: nothing else sets the time of an object's change."""
        with suppress(Exception):
            if time.time() - _changed_s(self.fs.info(self.path(name))) > _TOUCHED_S:
                self._write(name, self._read(name))

    def _move(self, name: str, to: str) -> None:
        self.fs.mv(self.path(name), self.path(to))

    def _remove(self, name: str) -> None:
        self.fs.rm_file(self.path(name))

    def _publish(self, work: Path, name: str, last: str) -> None:
        files = sorted(path for path in work.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == last):
            where = self.path(f"{name}/{path.relative_to(work).as_posix()}")
            self.fs.put_file(str(path), where)


def _changed_s(info: dict[str, Any]) -> float:
    """Return when an object was written; now where its store does not say."""
    found = info.get("LastModified") or info.get("mtime") or info.get("created")
    if isinstance(found, datetime):
        return found.timestamp()
    return float(found) if isinstance(found, int | float) else time.time()
