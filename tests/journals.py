"""What lies in a journal, whichever layout it has: looked at, changed, damaged."""

from __future__ import annotations

from pathlib import Path

from nemoflows.storage.opening import open_records
from nemoflows.storage.store import Records


def opened(root: str | Path) -> Records:
    return open_records(str(root))


def content(root: str | Path, folder: str) -> dict[str, bytes]:
    """Return what lies below a folder of a journal, by name."""
    store = opened(root)
    return {name: store.read(name) or b"" for name in store.names(folder)}


def recorded(root: str | Path) -> dict[str, bytes]:
    """Return the records of a journal as they were written, by name."""
    return content(root, "calls")


def lines(root: str | Path, folder: str) -> list[bytes]:
    """Return all lines below a folder of a journal."""
    return [line for data in content(root, folder).values() for line in data.splitlines()]


def only_record(root: str | Path) -> tuple[str, bytes]:
    """Return name and content of the one record."""
    [found] = recorded(root).items()
    return found


def key_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")


def rewrite(root: str | Path, name: str, data: bytes) -> None:
    """Put other content under a name."""
    opened(root).write(name, data)
