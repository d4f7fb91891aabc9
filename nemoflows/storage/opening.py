"""Which kind of store a root has, by its address and by what it lies on."""

from __future__ import annotations

import logging
import os

from nemoflows.errors import BadInput
from nemoflows.storage.filesystem import close_to_others, local_path, network_of
from nemoflows.storage.local import LocalStore
from nemoflows.storage.objects import ObjectStore
from nemoflows.storage.sqlite import FILE, SqliteStore
from nemoflows.storage.store import Records, Store

log = logging.getLogger(__name__)


def open_store(uri: str, *, bulk: bool = False) -> Store:
    """Return the store at a path or an fsspec URL; nothing is made there before a write.

    Args:
        uri: The root.
        bulk: It holds long files, as an index does.

    Raises:
        BadInput: The root has no name, or no kind of store is known by its scheme.
    """
    if not uri.strip():
        raise BadInput("The root has no name. Give a folder or an object-store prefix (s3://...).")
    if path := local_path(uri):
        close_to_others(path)
        return LocalStore(path, links=bulk)
    return ObjectStore(uri, bulk=bulk)


def open_records(uri: str) -> Records:
    """Return the root of a journal; nothing is made there before a write.

    Args:
        uri: A path has one SQLite file; `file://`, a network file system and an object store have
            the object layout, a file per name.

    Raises:
        BadInput: As `open_store`; there is an SQLite file where there should be none.
    """
    path = local_path(uri) if uri.strip() else None
    kind = network_of(path) if path else ""
    if path is None or not (kind or "://" in uri):
        if path is None:
            return open_store(uri)
        close_to_others(path)
        return SqliteStore(path)
    if os.path.lexists(path / FILE):
        place = (
            f"lies on a network file system ({kind})" if kind else "was named by a file:// address"
        )
        raise BadInput(
            f"{path} {place}, where a journal is a file per call, and there is a {FILE} in it. "
            f"`nemoflows journal --root OTHER import {path}` brings that to another root."
        )
    if kind:
        log.warning(
            "%s lies on %s: its journal is a file per call, not one SQLite file.", path, kind
        )
    return open_store(uri)
