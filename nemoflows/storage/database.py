"""The file of `SqliteStore`: made whole, opened with care, and what its errors say."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

from nemoflows.errors import BadInput, CorpusError
from nemoflows.storage.store import TEMPORARY, Facts

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
    return connection


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
    name = getattr(error, "sqlite_errorname", "")
    return type(error) is sqlite3.DatabaseError and (not name or name.startswith(_DAMAGED))
