"""A repository that lies in a bucket file by file, as Flyte uploads a folder: read in memory.

Not covered: what may be executed and links, which a bucket does not keep.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

from nemoflows.sandbox.archives import Bounds, Member, Unpacked, gathered
from nemoflows.storage.filesystem import filesystem
from nemoflows.storage.store import translated

_TOGETHER = 256
"""Files that are asked for at once."""


def read_bucket(uri: str) -> Unpacked:
    """Return what lies below an address, within the bounds of a repository.

    Raises:
        BadInput: It is too much, or a name leads out.
        CorpusError: The store refuses.
        EndpointDown: The store does not answer.
    """
    with translated(f"The repository {uri!r} cannot be read"):
        files, root = filesystem(uri, bulk=True)
        files.invalidate_cache()
        listed = files.find(root, detail=True)
        tree, left_out = gathered(_members(files, root, listed))
    return Unpacked(tree, {}, left_out)


def _members(files: Any, root: str, listed: dict[str, dict[str, Any]]) -> Iterator[Member]:
    bounds = Bounds()
    sizes = {path: int(about["size"] or 0) for path, about in listed.items() if path != root}
    names = {path: bounds.take(path.removeprefix(root).lstrip("/"), n) for path, n in sizes.items()}
    plain = [path for path, name in names.items() if name and not path.endswith("/")]
    for start in range(0, len(plain), _TOGETHER):
        some = plain[start : start + _TOGETHER]
        long = [path for path in some if sizes[path]]
        ends = [sizes[path] for path in long]
        read = files.cat_ranges(long, [0] * len(long), ends, on_error="raise") if long else []
        found = dict(zip(long, read, strict=True))
        for path in some:
            yield Member(names[path], bytes(found.get(path, b"")), stat.S_IFREG | 0o644)
