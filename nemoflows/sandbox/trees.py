"""A repository's files as a value: read once, hashed, changed in memory, written as clean copies.

Not covered: symbolic links, which are left out and named, and empty folders.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import io
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nemoflows.errors import BadInput
from nemoflows.sandbox.listing import Listing
from nemoflows.storage.beneath import Root

MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Tree:
    """Files by path relative to the root, with `/`."""

    files: Mapping[str, bytes]
    executable: frozenset[str] = frozenset()

    @cached_property
    def hash(self) -> str:
        """Return the SHA-256 over every file's path, mode and content."""
        whole = hashlib.sha256()
        for path in sorted(self.files):
            content = hashlib.sha256(self.files[path]).hexdigest()
            whole.update(
                f"{path}\0{int(path in self.executable)}\0{content}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
        return whole.hexdigest()

    def text(self, path: str) -> str | None:
        """Return a file's text; None where there is no such file or it is not UTF-8."""
        try:
            return self.files[path].decode()
        except (KeyError, UnicodeDecodeError):
            return None

    def changed(self, texts: Mapping[str, str]) -> Tree:
        """Return the tree with files replaced or added."""
        written = {path: text.encode() for path, text in texts.items()}
        return Tree({**self.files, **written}, self.executable)

    def paths_other_than(self, before: Tree) -> set[str]:
        """Return the files that are new here, or are not what they were."""
        return {path for path, data in self.files.items() if before.files.get(path) != data}

    def write(self, folder: Path, *, but: Collection[str] = ()) -> None:
        """Write files below a folder, which nobody else should be able to write.

        Args:
            folder: Where; what is there under their names must not be.
            but: Files that are there already.
        """
        for path, data in self.files.items():
            if path in but:
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o555 if path in self.executable else 0o444)

    def archive(self) -> bytes:
        """Return the tree as a tar file, the same bytes for the same tree."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self.files):
                entry = tarfile.TarInfo(path)
                entry.size = len(self.files[path])
                entry.mode = 0o755 if path in self.executable else 0o644
                archive.addfile(entry, io.BytesIO(self.files[path]))
        return buffer.getvalue()


def from_archive(data: bytes) -> Tree:
    """Return the tree that `archive` packed."""
    files, executable = {}, set()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            if content is not None:
                files[entry.name] = content.read()
                if entry.mode & 0o100:
                    executable.add(entry.name)
    return Tree(files, frozenset(executable))


def read(folder: Path) -> tuple[Tree, list[str]]:
    """Read a folder: what git tracks or would track, else everything but what tools leave behind.

    Returns:
        The tree, and what was left out with the reason.

    Raises:
        BadInput: The folder is missing, empty or too large, or a file of it cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"The repository {str(folder)!r} is not a folder. Nothing was run.")
    listing = Listing(folder)
    files: dict[str, bytes] = {}
    executable, n_bytes = set(), 0
    with Root(folder) as root:
        for path in listing.names(root):
            found = _read(root, path, listing.left_out, limit_bytes=MAX_BYTES - n_bytes)
            if found is not None:
                files[path], is_executable = found
                n_bytes += len(files[path])
                executable |= {path} if is_executable else set()
    if not files:
        raise BadInput(f"The repository {str(folder)!r} holds no files. Nothing was run.")
    return Tree(files, frozenset(executable)), sorted(listing.left_out)


def _read(
    root: Root, path: str, left_out: list[str], *, limit_bytes: int
) -> tuple[bytes, bool] | None:
    """Return a file's content and whether it is executable; None where it is left out."""
    try:
        data, status = root.read(path, limit_bytes=limit_bytes)
    except FileNotFoundError:
        return None  # tracked, and removed
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise BadInput(
                f"The repository has more than {MAX_BYTES >> 20} MiB, with {path!r}. Name the part "
                "that the issue is about."
            ) from error
        if isinstance(error, PermissionError):
            raise BadInput(
                f"{path!r} of the repository cannot be read: {error.strerror}."
            ) from error
        below = error.errno == errno.ENOTDIR
        left_out.append(f"{path}: {'a link is on its way' if below else 'not a regular file'}")
        return None
    return data, bool(status.st_mode & 0o100)


def diff(before: Tree, after: Tree) -> str:
    """Return the unified diff of two trees, as `git apply` takes it.

    Files of other than UTF-8 text are taken as Latin-1: edits cannot change them.
    """
    return "".join(
        _file_diff(
            path, before.files.get(path), after.files.get(path), executable=path in after.executable
        )
        for path in sorted({*before.files, *after.files})
        if before.files.get(path) != after.files.get(path)
    )


def n_changed(patch: str) -> int:
    """Return how many lines a diff adds or removes."""
    marks = (line[:1] for line in patch.split("\n") if not line.startswith(("+++ ", "--- ")))
    return sum(mark in {"+", "-"} for mark in marks)


def _file_diff(path: str, before: bytes | None, after: bytes | None, *, executable: bool) -> str:
    mode = "100755" if executable else "100644"
    head = f"diff --git {_quoted('a/' + path)} {_quoted('b/' + path)}\n"
    if before is None:
        head += f"new file mode {mode}\n"
    if after is None:
        head += f"deleted file mode {mode}\n"
    body = difflib.unified_diff(_lines(before), _lines(after), n=3, lineterm="\n")
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body
    ]
    old = "/dev/null" if before is None else _named("a/" + path)
    new = "/dev/null" if after is None else _named("b/" + path)
    return head + "".join([f"--- {old}\n", f"+++ {new}\n", *lines[2:]] if lines else [])


def _lines(data: bytes | None) -> list[str]:
    if not data:
        return []
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return [f"{line}\n" for line in text.split("\n")[:-1]] + (
        [last] if (last := text.rpartition("\n")[2]) else []
    )


def _named(path: str) -> str:
    """Return a path as a header names it: a tab ends one with a space in it."""
    quoted = _quoted(path)
    return f"{quoted}\t" if " " in quoted and quoted == path else quoted


def _quoted(path: str) -> str:
    """Return a path in C's spelling, where git would want that."""
    plain = all(ord(c) >= 32 and c not in '"\\\x7f' for c in path)
    if plain:
        return path
    shown = path.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").replace("\n", "\\n")
    return f'"{shown}"'
