"""Where a URI leads: to a local path, or to a file system of fsspec's; and what it raises."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any


def local_path(uri: str) -> Path | None:
    """Return the path that a URI without a scheme, or a `file://` one, names; None if remote."""
    scheme, found, path = uri.partition("://")
    if found and scheme not in {"file", "local"}:
        return None
    expanded = os.path.expanduser(path if found else uri)  # noqa: PTH111  (Path raises at ~nobody)
    return Path(expanded).absolute()


def filesystem(uri: str, *, bulk: bool = False) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path in it; no other function makes one.

    Args:
        uri: A path or an fsspec URL.
        bulk: The files are long: S3 is asked for parts of one at the same time. That takes a look
            at its length first, which small records are better off without.
    """
    import fsspec

    options = {"max_concurrency": 1} if uri.startswith("s3://") and not bulk else {}
    found: tuple[Any, str] = fsspec.core.url_to_fs(uri, **options)
    return found


def read_regular(path: str, *, limit_bytes: int) -> bytes:
    """Return the first bytes of a regular file, one more than the limit where it is longer.

    Raises:
        OSError: It cannot be read, or has become a link or a pipe since it was listed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no longer a regular file")
        return file.read(limit_bytes + 1)
