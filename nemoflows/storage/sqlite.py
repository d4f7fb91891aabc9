"""One SQLite file as a root: small files, lines that grow, and a table of calls to query.

    files      name → content, written whole
    segments   name of a file that grows → number
    lines      its lines, in order
    calls      what a query needs of each recorded call

WAL mode with `synchronous=NORMAL`. Source: sqlite.org/pragma.html#pragma_synchronous: a committed
transaction outlives its process, however that ends; a power cut may take the last ones back, and
leaves the file whole. All processes must be on one machine (sqlite.org/wal.html), so that a network
file system has the object layout.

Files that lie beside it in the object layout, as earlier versions wrote them, are read and listed
as if they were in it. What it cannot take, for somebody else holds it or it is damaged, is written
there too.
"""

# ruff: noqa: S608  (what is put into statements are our own names; values are bound)
from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.storage import database, forks
from nemoflows.storage.database import FACTS, below, connect, create, failed, is_held
from nemoflows.storage.local import LocalStore
from nemoflows.storage.store import Facts, Records

log = logging.getLogger(__name__)

FILE = "journal.sqlite"
CHECKPOINT_BYTES = 2**24
"""Written between two moves of the log into the file: few moves, and a short log."""
PAGES_BYTES = 2**13
"""What a row takes in the log beside its content."""
PAGE_ROWS = 500
"""Rows that a listing holds at once; between two pages others may write."""

_DATA = "coalesce(CAST(data AS BLOB), x'')"
"""A changed byte may give it another type."""
_READ = f"""SELECT {_DATA}, (SELECT name FROM files AS row NOT INDEXED WHERE row.id = files.id)
    FROM files WHERE name = ?1 UNION ALL
    SELECT {_DATA}, ?1 FROM lines WHERE segment = (SELECT id FROM segments WHERE name = ?1)"""
_LOST = """SELECT 1 FROM calls WHERE key = ?
    AND NOT EXISTS (SELECT 1 FROM files WHERE name = ?)"""
_PUT = "INSERT INTO files(name, data) VALUES (?, ?)"
_PUT_AGAIN = "UPDATE files SET data = ? WHERE name = ?"
_PUT_CALL = f"INSERT OR REPLACE INTO calls(id, {FACTS}) VALUES (?{', ?' * len(Facts._fields)})"
_ID = "SELECT id FROM files WHERE name = ?"
_APPEND = """INSERT INTO lines(segment, n, data)
    SELECT id, (SELECT coalesce(max(n), 0) + 1 FROM lines WHERE segment = segments.id), ?
    FROM segments WHERE name = ?"""
_BELOW = "WHERE name >= ? AND name < ?"
_LINES = f"""SELECT n, {_DATA} FROM lines WHERE segment = (SELECT id FROM segments WHERE name = ?)
    AND n > ? ORDER BY n LIMIT {PAGE_ROWS}"""
_LAST = f"""SELECT {_DATA} FROM lines WHERE segment = (SELECT id FROM segments WHERE name = ?)
    ORDER BY n DESC LIMIT 1"""
_SEGMENT_SIZES = f"""SELECT name, (
    SELECT coalesce(sum(length(data)), 0) FROM lines WHERE segment = id
    ) FROM segments {_BELOW}"""
_FORGET_CALL = "DELETE FROM calls WHERE id = (SELECT id FROM files WHERE name = ?)"
_REMOVE = (
    _FORGET_CALL,
    "DELETE FROM files WHERE name = ?",
    "DELETE FROM lines WHERE segment = (SELECT id FROM segments WHERE name = ?)",
    "DELETE FROM segments WHERE name = ?",
)


class SqliteStore(Records):
    """The file `journal.sqlite` in a folder; both are made when it is first written to."""

    is_local = True

    def __init__(self, root: Path) -> None:
        """Take the folder; only its owner may read what is written there, whatever the umask."""
        self.root = self.uri = str(root)
        self.file = f"{root}/{FILE}"
        self.beside = LocalStore(root)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        """Device and inode of the file that is open."""
        self._is_held = False
        """Whether somebody else kept the file when it was last to be written."""
        self._is_beside = False
        """Whether something was written beside it, for it took nothing."""
        self._since_bytes = 0
        """Written since the log was last moved into the file."""
        forks.held_open.add(self)

    def make(self) -> None:
        """Make the folder and the file, and open it, so that damage is known before any work.

        Where no file can be made, records that lie there in the object layout are still replayed,
        and new ones are written beside it if there is room for some.
        """
        self.beside.make()
        try:
            with self._using(f"The journal {self.file} cannot be opened"):
                pass
        except CorpusError:
            if os.path.lexists(self.file):
                raise
            if not Path(self.path("calls")).is_dir():
                self.beside.write(probe := f"calls/{FILE}", bytes(PAGES_BYTES))
                self.beside.remove(probe)

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`; None where there is no such file."""
        data = self.own(name)
        if data is None and os.path.lexists(f"{self.root}/{name}"):
            return self.beside.read(name)
        return data

    def own(self, name: str) -> bytes | None:
        """Return what is in the file under `name`, and not merely beside it.

        Raises ours where the file's trees differ: a recorded call that is not found is paid again.
        """
        rows = self._query(_READ, name)
        key = name.rpartition("/")[2].removesuffix(".json") if name.startswith("calls/") else ""
        lost = key and not rows and self._query(_LOST, key, name)
        if lost or any(found != name for _, found in rows):
            told = sqlite3.DatabaseError("its trees do not agree")
            raise failed(f"{self.file}: {name} cannot be found", told, self.file) from told
        return b"".join(data for data, _ in rows) if rows else None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, some at a time in memory."""
        for part in self._rows(name):
            yield from part.splitlines()
        for (data,) in self._query(f"SELECT {_DATA} FROM files WHERE name = ?", name):
            yield from data.splitlines()
        if os.path.lexists(self.path(name)):
            yield from self.beside.lines(name)

    def last(self, name: str) -> bytes:
        """Return the last line of a file; empty where there is none."""
        rows = self._query(_LAST, name)
        return next(reversed(rows[0][0].splitlines()), b"") if rows else super().last(name)

    def write(self, name: str, data: bytes, facts: Facts | None = None) -> None:
        """Write `data` under `name`, all of it or nothing; beside a file that takes nothing."""
        try:
            with self._using(f"{name} ({len(data):,} bytes) cannot be written") as found:
                _put(found, name, data, facts)
                self._written(found, len(data))
        except CorpusError as error:
            try:
                self.beside.write(name, data)
            except CorpusError:
                raise error from None
            level = logging.DEBUG if self._is_beside else logging.WARNING  # once is enough
            log.log(level, "It was written beside %s instead: %s", self.file, error.message)
            self._is_beside = True

    def append(self, name: str, lines: bytes) -> bool:
        """Append in one transaction."""
        try:
            with self._using(f"{name} cannot be written") as found:
                if not found.execute(_APPEND, (lines, name)).rowcount:
                    found.execute("INSERT OR IGNORE INTO segments(name) VALUES (?)", (name,))
                    found.execute(_APPEND, (lines, name))
                self._written(found, len(lines))
        except CorpusError as error:
            raise OSError(error.message) from error
        return True

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have what this thread writes within this be one transaction."""
        with self._using("it cannot be written") as found:
            found.execute("BEGIN IMMEDIATE")
            with found:
                yield
                if not found.in_transaction:  # SQLite ends one by itself where the disk is full
                    raise sqlite3.OperationalError("the transaction was rolled back")
            self._written(found, 0)

    def calls(self, run: str | None = None) -> Iterator[Facts]:
        """Yield what queries need of a run's recorded calls, or of all, as they were written."""
        of_run, given = ("", ()) if run is None else ("AND run = ?", (run,))
        asked, last = f"SELECT id, {FACTS} FROM calls WHERE id > ? {of_run}", 0
        while rows := self._query(f"{asked} ORDER BY id LIMIT {PAGE_ROWS}", last, *given):
            yield from (Facts(*row[1:]) for row in rows)
            last = rows[-1][0]

    def unlisted(self, folder: str) -> dict[str, int]:
        """Return the lengths of files below `folder` that `calls` does not know, by name."""
        beside = self._sizes_beside(folder)
        return {name: size for name, size in beside.items() if not self._query(_ID, name)}

    def problems(self) -> str:
        """Return what SQLite finds wrong with the file; empty where it is whole."""
        told = "; ".join(str(row[0]) for row in self._query("PRAGMA integrity_check(5)"))
        return "" if told in {"", "ok"} else told

    def compact(self) -> None:
        """Give back the space of what was removed, and leave nothing of it in the file."""
        with self._using("it cannot be compacted") as found:
            found.execute("VACUUM")
            found.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below `folder`, sorted; none where it is missing."""
        found = set(self._sizes_beside(folder))
        for table in ("files", "segments"):
            rows = self._query(f"SELECT name FROM {table} {_BELOW}", *below(folder))
            found |= {row[0] for row in rows}
        return sorted(found)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the lengths of all files below `folder` in bytes, by name."""
        found = self._sizes_beside(folder) | dict(self._query(_SEGMENT_SIZES, *below(folder)))
        asked = f"SELECT name, length(data) FROM files {_BELOW}"
        return found | dict(self._query(asked, *below(folder)))

    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""
        with self._using(f"{name} cannot be moved to {to}") as found:
            found.execute(_FORGET_CALL, (name,))
            moved = found.execute("UPDATE OR REPLACE files SET name = ? WHERE name = ?", (to, name))
            if moved.rowcount:
                return
        self.beside.move(name, to)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if os.path.lexists(self.file):
            with self._using(f"{name} cannot be removed") as found:
                for asked in _REMOVE:
                    found.execute(asked, (name,))
        if os.path.lexists(self.path(name)):
            self.beside.remove(name)

    def close(self) -> None:
        """Close the file; whoever uses the store again opens it again."""
        with self._lock:
            self._let_go()

    def hold(self) -> None:
        """Close the file and keep every thread from it until `release`."""
        self._lock.acquire()
        self._let_go()

    def release(self) -> None:
        """Let threads use the file again."""
        self._lock.release()

    @contextmanager
    def _using(self, tried: str) -> Iterator[sqlite3.Connection]:
        """Hand out the connection, to one thread at a time, and raise ours for its errors."""
        try:
            with self._lock:
                yield self._open()
        except (sqlite3.Error, OSError, ValueError) as error:
            if is_held(error):
                self._wait(0.0)
            raise failed(f"{self.file}: {tried}", error, self.file) from error

    def _open(self) -> sqlite3.Connection:
        """Return the connection to the file that has its name now; it may have been removed."""
        place = _place(self.file)
        if self._connection is None or place != self._place:
            self._let_go()
            if not place:
                self.beside.make()
                create(self.file)
            self._connection = connect(self.file)
            self._place = _place(self.file)
        return self._connection

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _wait(self, seconds: float) -> None:
        """Wait so long for others from now on: not again and again for one that keeps the file."""
        self._is_held = not seconds
        if self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}").fetchall()

    def _written(self, connection: sqlite3.Connection, n_bytes: int) -> None:
        """Count what was written, and move the log into the file from time to time."""
        if self._is_held:
            self._wait(database.BUSY_S)
        self._since_bytes += n_bytes + PAGES_BYTES
        if self._since_bytes > CHECKPOINT_BYTES and not connection.in_transaction:
            self._since_bytes = 0
            connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()

    def _rows(self, name: str) -> Iterator[bytes]:
        last = 0
        while rows := self._query(_LINES, name, last):
            yield from (data for _, data in rows)
            last = rows[-1][0]

    def _query(self, asked: str, *given: str | int) -> list[Any]:
        if self._connection is None and not os.path.lexists(self.file):
            return []
        with self._using("it cannot be read") as found:
            return found.execute(asked, given).fetchall()

    def _sizes_beside(self, folder: str) -> dict[str, int]:
        if not Path(self.path(folder)).is_dir():
            return {}
        found = self.beside.sizes(folder)
        return {name: size for name, size in found.items() if not name.startswith(FILE)}


def _put(found: sqlite3.Connection, name: str, data: bytes, facts: Facts | None) -> None:
    """Write a file and its facts, in the transaction that is open or in one of their own."""
    if facts is not None and not found.in_transaction:
        found.execute("BEGIN IMMEDIATE")
        with found:
            _put(found, name, data, facts)
        return
    try:
        number = found.execute(_PUT, (name, data)).lastrowid
    except sqlite3.IntegrityError:  # it is there: the same again, or mended
        found.execute(_PUT_AGAIN, (data, name))
        [(number,)] = found.execute(_ID, (name,))
    if facts is not None:
        found.execute(_PUT_CALL, (number, *facts))


def _place(file: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None where there is none."""
    try:
        status = os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
