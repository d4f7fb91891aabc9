"""Find the files of a corpus: what is there, what is passed over, and why.

A corpus is a folder, one file or an object-store prefix (`s3://...`). Hidden files and folders,
`node_modules` and `__pycache__` are passed over in silence; everything else that is not a regular
file inside the corpus is reported. No link out of the corpus is followed.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from nemoflows.errors import CorpusError
from nemoflows.storage.beneath import Root
from nemoflows.storage.filesystem import filesystem, local_path
from nemoflows.storage.store import translated
from nemoflows.types import Skipped

_PASSED_OVER = frozenset({"node_modules", "__pycache__"})
_SETTLED_S = 2.0
"""A file changed more recently may change again within one tick of its file system's clock."""


class File(NamedTuple):
    """A file that may hold documents; nothing of it has been read."""

    name: str
    """Path relative to the corpus, with `/`."""
    size_bytes: int
    signature: str
    """Same signature, same content; empty where that cannot be promised."""
    folder: str
    target: str = ""
    """The path where it is not the name in the folder: of a link, of an object."""

    @property
    def path(self) -> str:
        """Return where the file lies."""
        return self.target or f"{self.folder}/{self.name}"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files of a corpus in order of their names, and what was left out."""

    uri: str
    """Absolute, so that it names the same corpus from any working folder."""
    files: list[File]
    skipped: list[Skipped]
    filesystem: Any = None
    """fsspec's, for an object store; None for a local corpus."""

    def read(self, file: File, *, limit_bytes: int) -> bytes:
        """Return the file's content.

        Raises:
            CorpusError: It cannot be read, or is longer than `limit_bytes`.
        """
        if file.size_bytes > limit_bytes:
            raise CorpusError(_too_long(file.size_bytes, limit_bytes))
        try:
            data = self._fetch(file) if self.filesystem else self._read(file, limit_bytes)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise CorpusError(_too_long(limit_bytes + 1, limit_bytes)) from error
            raise CorpusError(f"unreadable: {error.strerror or error}") from error
        if len(data) > limit_bytes:
            raise CorpusError(_too_long(len(data), limit_bytes))
        return data

    def _read(self, file: File, limit_bytes: int) -> bytes:
        """Read beneath the corpus, where a link may have come since it was listed."""
        with Root(file.folder or "/") as root:
            name = file.path.removeprefix(f"{file.folder}/")
            return root.read(name, limit_bytes=limit_bytes)[0]

    def _fetch(self, file: File) -> bytes:
        with translated(f"{file.path} cannot be read", but=(OSError,)):
            data: bytes = self.filesystem.cat_file(file.path)
        return data


@dataclass(slots=True)
class _Found:
    folder: str
    """That the names are relative to."""
    files: list[File] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        """Note a file that is left out; a name that is not text is shown escaped."""
        shown = name.encode("utf-8", "backslashreplace").decode()
        self.skipped.append(Skipped(document=shown, reason=reason))


def scan(corpus: str) -> Corpus:
    """Return the files of `corpus`.

    Raises:
        CorpusError: There is nothing at `corpus`, or it cannot be listed.
    """
    if not corpus.strip():
        raise CorpusError("The corpus has no name. Give a folder, a file or an s3:// prefix.")
    root = local_path(corpus)
    if root is None:
        return _scan_remote(corpus)
    try:
        with _uncollected():
            found = _walk(root.resolve(strict=True))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CorpusError(
            f"The corpus {corpus!r} cannot be read: {reason}. "
            "Give an existing folder, a file or an s3:// prefix that this process may read."
        ) from error
    return _sorted(str(root.resolve()), found, None)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Have nothing collected: every file found stays, and looking at them all took a quarter."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _sorted(uri: str, found: _Found, filesystem: object) -> Corpus:
    files = sorted(found.files, key=itemgetter(0))
    return Corpus(uri, files, sorted(found.skipped, key=lambda s: s.document), filesystem)


def _walk(root: Path) -> _Found:
    found = _Found(str(root if root.is_dir() else root.parent).rstrip("/"))
    if not root.is_dir():
        _visit(root.name, root.lstat(), root.parent, found)
        return found
    os.scandir(root).close()  # an unreadable root is the caller's error, not a skipped folder
    folders = [""]
    with Root(root) as opened:
        while folders:
            folder = folders.pop()
            try:
                entries = opened.statuses(folder)
            except OSError as error:
                found.skip(folder, f"unreadable: {error.strerror}")
                continue
            start = f"{folder}/" if folder else ""
            settled_s = time.time() - _SETTLED_S
            for name, status in entries:
                if _hidden(name):
                    continue
                path = start + name
                if isinstance(status, OSError):
                    found.skip(path, f"unreadable: {status.strerror}")
                elif stat.S_ISREG(status.st_mode) and path.isascii():  # nearly all, and many
                    signature = _signature(status, settled_s)
                    found.files.append(File(path, status.st_size, signature, found.folder))
                elif stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                else:
                    _visit(path, status, root, found)
    return found


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def _visit(name: str, status: os.stat_result, root: Path, found: _Found) -> None:
    """Add one path that is no folder, or say why not."""
    target = ""
    try:
        if stat.S_ISLNK(status.st_mode):
            linked = _target(root / name, root)
            target, status = str(linked), linked.stat()
        name.encode()
    except (OSError, RuntimeError, CorpusError) as error:
        loop = isinstance(error, RuntimeError) or getattr(error, "errno", 0) == errno.ELOOP
        reason = getattr(error, "strerror", None) or str(error)
        found.skip(name, "a link that points to itself" if loop else reason)
    except UnicodeEncodeError:
        found.skip(name, "its name is not UTF-8")
    else:
        if stat.S_ISREG(status.st_mode):
            signature = _signature(status, time.time() - _SETTLED_S)
            found.files.append(File(name, status.st_size, signature, found.folder, target))
        else:
            found.skip(name, f"not a regular file but {_kind(status.st_mode)}")


def _target(link: Path, root: Path) -> Path:
    """Return the file inside the corpus that a link stands for."""
    target = link.resolve(strict=True)
    if not target.is_relative_to(root):
        raise CorpusError("a link that leads out of the corpus")
    if target.is_dir():
        raise CorpusError("a link to a folder")
    if not any(_hidden(part) for part in target.relative_to(root).parts):
        raise CorpusError(f"a link to {target.relative_to(root)}, which is indexed itself")
    return target


def _kind(mode: int) -> str:
    names = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return names.get(stat.S_IFMT(mode), "a device")


def _signature(status: os.stat_result, settled_s: float) -> str:
    if status.st_mtime > settled_s or status.st_ctime > settled_s:
        return ""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def _too_long(size_bytes: int, limit_bytes: int) -> str:
    mib = 2**20
    return f"{size_bytes / mib:.0f} MiB is over the limit of {limit_bytes // mib} MiB for its kind"


def _scan_remote(corpus: str) -> Corpus:
    with translated(f"The corpus {corpus!r} cannot be listed"):
        files, root = filesystem(corpus, bulk=True)
        # A resumed or concurrent build must not see a listing from before the upload.
        files.invalidate_cache()
        listed = files.find(root, detail=True)
    found = _Found(root)
    for path, info in listed.items():
        name = path.removeprefix(root).strip("/") or PurePosixPath(path).name
        if not any(_hidden(part) for part in name.split("/")) and not path.endswith("/"):
            tag = str(info.get("ETag") or "")
            signature = f"{info['size']}.{tag}" if tag else ""
            found.files.append(File(name, info["size"], signature, root, path))
    return _sorted(corpus.rstrip("/"), found, files)
