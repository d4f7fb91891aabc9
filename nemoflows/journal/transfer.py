"""Bringing a journal into another one: an older layout, another root, what damage has left."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.journal.book import Journal, facts_of, key_in, summed
from nemoflows.journal.records import Recorded
from nemoflows.storage.database import is_damaged
from nemoflows.storage.filesystem import local_path
from nemoflows.storage.opening import open_records
from nemoflows.storage.salvage import files_in
from nemoflows.storage.sqlite import FILE, SqliteStore
from nemoflows.storage.store import Facts, Records
from nemoflows.types import Value

GROUP = 500
"""Files that are written in one transaction."""


class Imported(Value):
    """What came in."""

    records: int = 0
    others: int = 0
    """Attempts, receipts, notes and test runs."""
    damaged: int = 0
    """Records that were not what had been written, and were left where they are."""
    aside: str = ""
    """Where a damaged file lies now."""


def import_journal(root: str, source: str = "") -> Imported:
    """Copy another journal into the one at `root`; what is there already stays as it is.

    Args:
        root: The journal to write to.
        source: Another root, or an SQLite file. Empty is what lies in `root` itself: its files in
            the object layout, which go once they are in, and what a damaged file has left.

    Raises:
        BadInput: The source holds no journal, or one of the two cannot be opened.
    """
    aside = "" if source else _set_aside(root)
    book = Journal(root)
    found = Imported(aside=aside)
    into = book.store
    if aside:
        found = _copied(files_in(Path(aside)), into, found)
    if not source:
        return _taken_in(into, found) if isinstance(into, SqliteStore) else found
    path = local_path(source)
    if path and path.is_file():
        return _copied(files_in(path), into, found)
    other = open_records(_as_it_lies(source, path))
    if not other.names(""):
        raise BadInput(f"{source} holds no journal: there is nothing below it.")
    return _copied(_all_of(other), into, found)


def _as_it_lies(source: str, path: Path | None) -> str:
    """Return a root's address by its layout, whatever it lies on: it is only read."""
    if path is None:
        return source
    return str(path) if (path / FILE).exists() else f"file://{path}"


def _set_aside(root: str) -> str:
    """Give a damaged file another name and return its path; empty where it is not damaged."""
    store = open_records(root)
    if not isinstance(store, SqliteStore) or not Path(store.file).exists():
        return ""
    try:
        if not store.problems():
            return ""
    except NemoflowsError as error:
        if not is_damaged(error.__cause__):
            raise
    store.close()
    aside = f"{store.file}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    for end in ("", "-wal", "-shm"):
        if Path(f"{store.file}{end}").exists():
            Path(f"{store.file}{end}").rename(f"{aside}{end}")
    return aside


def _all_of(other: Records) -> Iterator[tuple[str, bytes]]:
    for name in other.names(""):
        if (data := other.read(name)) is not None:
            yield name, data


def _copied(found: Iterator[tuple[str, bytes]], into: Records, so_far: Imported) -> Imported:
    told = so_far.model_dump()
    while group := list(itertools.islice(found, GROUP)):
        with into.together():
            for name, data in group:
                told[_put(into, name, data)] += 1
    return Imported(**{key: told[key] for key in Imported.model_fields})


def _put(into: Records, name: str, data: bytes) -> str:
    """Write what is missing, and return what it counts as."""
    known = into.own(name) if isinstance(into, SqliteStore) else into.read(name)
    if not name.startswith("calls/"):
        if known is None:
            into.write(name, data)
        elif data not in known:  # lines come one by one
            into.append(name, data)
        return "others"
    key = name.rpartition("/")[2].removesuffix(".json")
    if key_in(summed(data)) != key:
        return "damaged"
    if known is None:
        into.write(name, data, _facts_in(data))
    return "records"


def _taken_in(into: SqliteStore, so_far: Imported) -> Imported:
    """Take in the files that lie beside the file of a root; each goes once it is written."""
    found = so_far
    folders = sorted(path.name for path in Path(into.root).iterdir() if path.is_dir())
    for folder in itertools.chain.from_iterable(map(_parts, folders)):
        beside = list(into.unlisted(folder))
        known = into.beside.sizes(folder).keys() - beside
        read = ((name, data) for name in beside if (data := into.beside.read(name)) is not None)
        found = _copied(read, into, found)
        for name in [*beside, *known]:
            if into.own(name) is not None:
                into.beside.remove(name)
    return found


def _parts(folder: str) -> list[str]:
    """Return the parts in which a folder is taken in: records are many."""
    return [f"calls/{number:02x}" for number in range(256)] if folder == "calls" else [folder]


def _facts_in(data: bytes) -> Facts | None:
    """Return what queries need of a record; None where this version cannot read it."""
    with suppress(ValidationError):
        return facts_of(Recorded.model_validate_json(summed(data)))
    return None
