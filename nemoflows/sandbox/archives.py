"""A repository in an archive (tar, tar.gz, zip), read in memory: no name of it reaches a disk here.

Bounded are the members and what they hold, whatever they say of themselves. Refused are absolute
names, names that lead out, devices, and hard links to what is not in it; a symbolic link is kept
where it leads to what is in it.

Not covered: bzip2 and xz, and zips with a password.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from nemoflows.errors import BadInput
from nemoflows.sandbox.copies import folders_of
from nemoflows.sandbox.listing import MAX_FILES, is_inside
from nemoflows.sandbox.trees import MAX_BYTES, Tree, refuse_large

ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_UNZIPPED_BYTES = MAX_BYTES + 2048 * MAX_FILES
"""Of a tar: what its files hold, their heads and what fills blocks of 512 bytes."""
_MAX_LINK_BYTES = 4096


class Unpacked(NamedTuple):
    """What an archive holds."""

    tree: Tree
    about: Mapping[str, str]
    """What it says of itself: `comment`, which git's own archives have for their commit."""
    left_out: list[str]


class Member(NamedTuple):
    """One thing that an archive or a bucket holds."""

    name: str
    content: bytes
    mode: int


def unpack(data: bytes) -> Unpacked:
    """Return what an archive holds.

    Raises:
        BadInput: It is none, holds too much, or something that leads out of it.
    """
    try:
        members, about = (_zipped if data[:2] == b"PK" else _tarred)(data)
        tree, left_out = gathered(members)
    except _BROKEN as error:
        raise BadInput(
            f"It is no archive that can be read ({type(error).__name__}): give one of "
            f"{', '.join(ENDINGS)}. Nothing was run."
        ) from error
    return Unpacked(tree, about, left_out)


_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
    NotImplementedError,
)  # fmt: skip


def links_inside(links: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Return the links that lead to what is known, each by the shortest way there."""
    found = {}
    for path, target in links.items():
        parent = posixpath.dirname(path)
        inside = posixpath.normpath(posixpath.join(parent, target))
        if not target.startswith("/") and inside in known:
            found[path] = posixpath.relpath(inside, parent or ".")
    return found


def gathered(members: Iterator[Member]) -> tuple[Tree, list[str]]:
    """Return the members as a tree, and what was left out of it with the reason.

    Raises:
        ValueError: One lies below another that is no folder.
    """
    files, executable, links = dict[str, bytes](), set[str](), dict[str, str]()
    for name, content, mode in members:
        for kept in (files, links):
            kept.pop(name, None)
        if stat.S_ISLNK(mode):
            links[name] = os.fsdecode(content)
        else:
            files[name] = content
            executable |= {name} if mode & 0o100 else set()
    if any(folder in files or folder in links for folder in folders_of([*files, *links])):
        raise ValueError("a file lies below a file")
    kept_links = links_inside(links, {*files, *folders_of(files)})
    left_out = [f"{path}: a link that leads to nothing in the copy" for path in links]
    left_out = [one for one, path in zip(left_out, links, strict=True) if path not in kept_links]
    return Tree(files, frozenset(executable & {*files}), kept_links), left_out


class Bounds:
    """Counts members and their bytes before any is read."""

    def __init__(self) -> None:
        self.n_files, self.n_bytes = 0, 0

    def take(self, name: str, size_bytes: int) -> str:
        """Return a member's plain name, if it may be read.

        Raises:
            BadInput: There are too many, or the name leads out.
        """
        self.n_files, self.n_bytes = self.n_files + 1, self.n_bytes + size_bytes
        refuse_large(self.n_files, self.n_bytes)
        plain = re.sub(r"^(\./)+|/+$", "", name)
        if plain not in {"", "."} and ("\0" in plain or not is_inside(plain)):
            raise _refused(name, "leads out of it, or is no plain name")
        return plain


def _refused(name: str, why: str) -> BadInput:
    return BadInput(f"The repository is refused: its {name!r} {why}. Nothing was run.")


def _tarred(data: bytes) -> tuple[Iterator[Member], Mapping[str, str]]:
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            data = packed.read(_MAX_UNZIPPED_BYTES + 1)
    if len(data) > _MAX_UNZIPPED_BYTES:
        refuse_large(0, len(data))
    archive = tarfile.open(fileobj=io.BytesIO(data), mode="r:")  # noqa: SIM115  (of bytes)
    return _of_tar(archive), archive.pax_headers


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    bounds, seen = Bounds(), dict[str, bytes]()
    for entry in archive:
        name = bounds.take(entry.name, 0 if entry.isdir() else entry.size)
        if entry.isdir():
            continue
        if entry.issym():
            yield Member(name, os.fsencode(entry.linkname), stat.S_IFLNK)
        elif entry.islnk():
            first = seen.get(re.sub(r"^(\./)+", "", entry.linkname))
            if first is None:
                raise _refused(entry.name, "is a link to what is not in it")
            bounds.take(entry.name, len(first))
            yield Member(name, first, entry.mode)
        elif (content := archive.extractfile(entry) if entry.isreg() else None) is not None:
            seen[name] = content.read()
            yield Member(name, seen[name], entry.mode)
        else:
            raise _refused(entry.name, "is a device or a pipe")


def _zipped(data: bytes) -> tuple[Iterator[Member], Mapping[str, str]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    comment = archive.comment[:64].decode("ascii", "replace")
    return _of_zip(archive), {"comment": comment}


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    bounds = Bounds()
    for entry in archive.infolist():
        name, mode = bounds.take(entry.filename, entry.file_size), entry.external_attr >> 16
        if entry.is_dir():
            continue
        if stat.S_ISLNK(mode) and entry.file_size > _MAX_LINK_BYTES:
            raise _refused(entry.filename, "is a link to a name of no length that there is")
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFLNK}:
            raise _refused(entry.filename, "is a device or a pipe")
        with archive.open(entry) as content:  # gives no more than the size that was taken
            yield Member(name, content.read(), mode)
