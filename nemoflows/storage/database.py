"""The file of `SqliteStore`: made whole, opened with care, and what its errors say."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from nemoflows.errors import BadInput, CorpusError
from nemoflows.storage.store import TEMPORARY, Facts

log = logging.getLogger(__name__)

APPLICATION = 0x6E656D6F
"""Marks the file as ours: `nemo` in SQLite's application id."""
VERSION = 1
BUSY_S = 10.0
"""Longest wait for another process that writes; a write takes well below a millisecond."""
CACHE_KIB = 8_192
PAGE_BYTES = 2_048
"""Half of the usual: a call's rows lie on many pages, and each is written whole into the log."""
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_HELD = ("SQLITE_BUSY", "SQLITE_LOCKED")

FACTS = ", ".join(Facts._fields)
CALLS_INDEX = "CREATE INDEX IF NOT EXISTS calls_by_key ON calls(key)"
"""A second way to a call. Measured: 5 µs an insert, 4 µs a look, 2.5 % of the bytes."""
_TABLES = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA synchronous = OFF;
BEGIN;
CREATE TABLE files(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE segments(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE lines(
    segment INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (segment, n)
) WITHOUT ROWID;
CREATE TABLE calls(id INTEGER PRIMARY KEY, {FACTS});
{CALLS_INDEX};
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
PRAGMA journal_mode = WAL;
"""


def create(file: str) -> None:
    """Make the file, whole or not at all: an empty one that is found later is a damaged one."""
    work = f"{os.path.dirname(file)}/{TEMPORARY}{uuid4().hex}"  # noqa: PTH120  (as in `store`)
    try:
        fd = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with closing(sqlite3.connect(work, isolation_level=None)) as made:
                made.executescript(_TABLES)
            os.fsync(fd)
        finally:
            os.close(fd)
        _publish(work, file)
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{work}{end}").unlink(missing_ok=True)


def _publish(work: str, file: str) -> None:
    """Give the file its name, unless another process was first."""
    try:
        os.link(work, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without second names
        if not os.path.lexists(file):
            Path(work).rename(file)


def connect(file: str) -> sqlite3.Connection:
    """Open the file, only to read where it may not be written to.

    Raises:
        sqlite3.Error: It is damaged, or cannot be opened.
        OSError: It is no file.
        BadInput: It is another program's, or a newer version's.
    """
    status = os.lstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    if not status.st_size:
        raise sqlite3.DatabaseError("the file is empty")
    with suppress(OSError):
        if status.st_mode & 0o077:
            Path(file).chmod(0o600)
    before = _shared(file) if _size_bytes(f"{file}-shm") else None
    connection = sqlite3.connect(
        f"{Path(file).as_uri()}{_options(file)}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _set_up(connection, file)
    except BaseException:
        connection.close()
        raise
    if n_lost := _n_lost(before, before and _shared(file)):
        log.warning(
            "The log of the journal %s was cut off or damaged: %d of its pages are lost, and with "
            "them the last records. What these held is asked, and paid, again.", file, n_lost
        )  # fmt: skip
    return connection


class _Shared(NamedTuple):
    """What the file that connections share says of the log; it outlives a process's kill."""

    place: tuple[int, int]
    salt: bytes
    n_frames: int
    n_moved: int
    """Frames that were moved into the file."""


_looked_at: dict[tuple[int, int], int] = {}
"""Descriptors by place, kept while it has a name: to close one gives up all locks of the process.

Source: sqlite.org/howtocorrupt.html, 2.2; fcntl(2).
"""


def _shared(file: str) -> _Shared | None:
    """Return what is known of the log; None where there is none, or it is being changed.

    Source: sqlite.org/walformat.html, 2.1: the header is there twice, then follows the count of
    frames that were moved.
    """
    for known, fd in list(_looked_at.items()):
        if not os.fstat(fd).st_nlink and _looked_at.pop(known, 0):
            os.close(fd)
    with suppress(OSError):
        status = os.lstat(f"{file}-shm")
        place = status.st_dev, status.st_ino
        if place not in _looked_at:
            _looked_at[place] = os.open(f"{file}-shm", os.O_RDONLY | os.O_NOFOLLOW)
        head = os.pread(_looked_at[place], 100, 0)
        if len(head) == 100 and head[:48] == head[48:96]:
            n_frames, n_moved = (struct.unpack_from("=I", head, at)[0] for at in (16, 96))
            return _Shared(place, head[32:40], n_frames, n_moved)
    return None


def _n_lost(before: _Shared | None, after: _Shared | None) -> int:
    """Return how many frames of the log were known when the file was opened, and are gone."""
    if before is None or after is None or before.place != after.place:
        return 0
    is_same = after.salt in {before.salt, bytes(8)}  # else it was begun anew, for all was moved
    lost = before.n_frames - max(after.n_frames, before.n_moved)
    return lost if is_same and lost > 0 else 0


def _options(file: str) -> str:
    """Return how to open a file that may not be written to; empty where it may.

    Without a log beside it nothing but the file is read, for what readers share is a file, too.
    Source: sqlite.org/wal.html, read-only databases.
    """
    if os.access(file, os.W_OK) and os.access(Path(file).parent, os.W_OK):
        return ""
    return "?mode=ro" if _size_bytes(f"{file}-wal") else "?immutable=1"


def _size_bytes(file: str) -> int:
    return Path(file).stat().st_size if Path(file).exists() else 0


def _set_up(connection: sqlite3.Connection, file: str) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    if application != APPLICATION:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not tables or {"files", "segments", "lines", "calls"} <= tables:
            raise sqlite3.DatabaseError("its header is not what was written")
        raise BadInput(
            f"{file} is an SQLite file of another program and stays as it is. Name another "
            "NEMOFLOWS_JOURNAL. No call was made."
        )
    if version > VERSION:
        raise BadInput(
            f"The journal {file} has layout {version}, and this version of nemoflows reads layout "
            f"{VERSION}: use a newer one, or name another NEMOFLOWS_JOURNAL. No call was made."
        )
    # The log is moved into the file by `SqliteStore`, never by two connections at once.
    # Source: sqlite.org/wal.html, "the WAL-reset bug", in versions below 3.51.3.
    for setting in ("synchronous=NORMAL", "wal_autocheckpoint=0", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    with suppress(sqlite3.OperationalError):  # to be read alone, or held: the next one adds it
        connection.execute(CALLS_INDEX)
    if Path(file).stat().st_size % PAGE_BYTES:  # cut off or shifted, unless the log mends it
        [(found,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != "ok" or not _size_bytes(f"{file}-wal"):
            raise sqlite3.DatabaseError(f"it does not end with a page ({found})")


def below(folder: str) -> tuple[str, str]:
    """Return the first name below a folder and the first one after all of them."""
    return (f"{folder}/", f"{folder}0") if folder else ("", "\U0010ffff")


def failed(tried: str, error: Exception, file: str) -> CorpusError:
    """Return what was tried, what came of it and what to do, as an error of ours."""
    if is_damaged(error):
        help_ = (
            f"The journal {file} is damaged. `nemoflows journal import` reads what is left of it "
            "into a new one, and keeps this one beside it."
        )
    elif is_held(error):
        help_ = f"Another program has held {file} for {BUSY_S:g} s: end it."
    else:
        help_ = "Check the path, the space left there and the permissions."
    return CorpusError(f"{tried}: {type(error).__name__}: {error}. {help_}")


def is_held(error: BaseException) -> bool:
    """Return whether an error says that somebody else did not let go of the file."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(_HELD)


def is_damaged(error: BaseException | None) -> bool:
    """Return whether an error says that the file is not what was written."""
    if isinstance(error, sqlite3.Error) and "decode to UTF-8" in str(error):  # a changed name
        return True
    name = getattr(error, "sqlite_errorname", "")
    return type(error) is sqlite3.DatabaseError and (not name or name.startswith(_DAMAGED))
