"""A repository's files as a value: read once, hashed, changed in memory, written as clean copies.

Not covered: empty folders.
"""

from __future__ import annotations

import base64
import difflib
import errno
import hashlib
import io
import tarfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nemoflows.errors import BadInput
from nemoflows.sandbox import texts
from nemoflows.sandbox.listing import MAX_FILES, NO_FILE, Listing
from nemoflows.storage.beneath import Root

MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Tree:
    """Files by path relative to the root, with `/`."""

    files: Mapping[str, bytes]
    executable: frozenset[str] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links that lead to what is inside, by path, as they are written."""

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
        for path, target in sorted(self.links.items()):
            whole.update(f"{path}\0->\0{target}\n".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()

    def text(self, path: str) -> str | None:
        """Return a file's text as Python reads it; None where there is no such file or text."""
        return texts.decoded(path, self.files[path]) if path in self.files else None

    def changed(self, changes: Mapping[str, str]) -> Tree:
        """Return the tree with files replaced or added, each in its own encoding.

        Raises:
            UnicodeEncodeError: A file's encoding lacks a character.
        """
        before = self.files
        written = {
            path: texts.encoded(path, text, before.get(path, b"")) for path, text in changes.items()
        }
        return Tree({**self.files, **written}, self.executable, self.links)

    def paths_other_than(self, before: Tree) -> set[str]:
        """Return the files that are new here, or are not what they were."""
        return {path for path, data in self.files.items() if before.files.get(path) != data}

    def write(
        self,
        folder: Path,
        *,
        but: Collection[str] = (),
        writable: Collection[str] = (),
        read_only: bool = False,
    ) -> None:
        """Write files below a folder, which nobody else should be able to write.

        Args:
            folder: Where; what is there under their names must not be.
            but: Files that are there already.
            writable: Files that anybody may write.
            read_only: Whether not even their owner may write the others.
        """
        for path, data in self.files.items():
            if path in but:
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            mode = 0o777 if path in writable else 0o555 if read_only else 0o755
            target.chmod(mode if path in self.executable else mode & 0o666)
        for path, named in self.links.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(named)

    def archive(self, about: Mapping[str, str] | None = None) -> bytes:
        """Return the tree as a tar file, the same bytes for the same tree and the same words."""
        buffer = io.BytesIO()
        with tarfile.open(
            fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=about
        ) as archive:
            for path in sorted(self.files):
                entry = tarfile.TarInfo(path)
                entry.size = len(self.files[path])
                entry.mode = 0o755 if path in self.executable else 0o644
                archive.addfile(entry, io.BytesIO(self.files[path]))
            for path, target in sorted(self.links.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        return buffer.getvalue()


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


def refuse_large(n_files: int, n_bytes: int) -> None:
    """Refuse a repository of too many files or bytes.

    Raises:
        BadInput: There are too many.
    """
    if n_files > MAX_FILES or n_bytes > MAX_BYTES:
        raise BadInput(
            f"The repository has more than {MAX_BYTES >> 20} MiB or {MAX_FILES:,} files, with what "
            "lies within it. Name the part that the issue is about. Nothing was run."
        )


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
            refuse_large(0, MAX_BYTES + 1)
        if isinstance(error, PermissionError):
            raise BadInput(
                f"{path!r} of the repository cannot be read: {error.strerror}."
            ) from error
        below = error.errno == errno.ENOTDIR
        left_out.append(f"{path}: {'a link is on its way' if below else NO_FILE}")
        return None
    return data, bool(status.st_mode & 0o100)


def diff(before: Tree, after: Tree, *, prefix: str = "") -> str:
    """Return the unified diff of two trees, as `git apply` takes it.

    A file that is not UTF-8 becomes a binary patch, with its lines before it as a comment.

    Args:
        prefix: Where the trees lie below the top of a git repository, ending with `/`.
    """
    return "".join(
        _file_diff(path, prefix, before.files.get(path), after.files.get(path), mode=mode)
        for path in sorted({*before.files, *after.files})
        if before.files.get(path) != after.files.get(path)
        for mode in ("100755" if path in after.executable else "100644",)
    )


def n_changed(patch: str) -> int:
    """Return how many lines a diff adds or removes."""
    lines = (line.removeprefix(_COMMENT) for line in patch.split("\n"))
    return sum(line[:1] in {"+", "-"} for line in lines if not line.startswith(("+++ ", "--- ")))


_COMMENT = "# "


def _file_diff(
    path: str, prefix: str, before: bytes | None, after: bytes | None, *, mode: str
) -> str:
    whole = prefix + path
    head = f"diff --git {_quoted('a/' + whole)} {_quoted('b/' + whole)}\n"
    if before is None:
        head += f"new file mode {mode}\n"
    if after is None:
        head += f"deleted file mode {mode}\n"
    old, new = _lines(path, before), _lines(path, after)
    body = difflib.unified_diff(old, new, n=3, lineterm="\n")
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in body
    ]
    if not _is_utf8(before or b"") or not _is_utf8(after or b""):
        comment = "".join(f"{_COMMENT}{line}" for line in lines[2:])
        return f"{_COMMENT}{path}, not UTF-8:\n{comment}{head}{_binary(before, after, mode)}"
    from_path = "/dev/null" if before is None else _named("a/" + whole)
    to_path = "/dev/null" if after is None else _named("b/" + whole)
    return head + "".join([f"--- {from_path}\n", f"+++ {to_path}\n", *lines[2:]] if lines else [])


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _lines(path: str, data: bytes | None) -> list[str]:
    if not data:
        return []
    try:
        text = data.decode()  # with its mark of order: a diff is of bytes
    except UnicodeDecodeError:
        text = texts.decoded(path, data) or data.decode("latin-1")
    return [f"{line}\n" for line in text.split("\n")[:-1]] + (
        [last] if (last := text.rpartition("\n")[2]) else []
    )


def _binary(before: bytes | None, after: bytes | None, mode: str) -> str:
    """Return a binary patch, both ways.

    Source: git's diff.c, emit_binary_diff_body: deflated, 52 bytes a line in base 85, each line
    begun with its length, A to Z and a to z.
    """
    ids = " ".join(
        [f"{_blob_id(before)}..{_blob_id(after)}", *([mode] if before and after else [])]
    )
    parts = []
    for data in (after or b"", before or b""):
        packed = zlib.compress(data)
        rows = [packed[n : n + 52] for n in range(0, len(packed), 52)]
        told = "".join(f"{_length(len(r))}{base64.b85encode(r, pad=True).decode()}\n" for r in rows)
        parts.append(f"literal {len(data)}\n{told}\n")
    return f"index {ids}\nGIT binary patch\n{''.join(parts)}"


def _length(n: int) -> str:
    return chr(n + 64) if n <= 26 else chr(n + 70)


def _blob_id(data: bytes | None) -> str:
    if data is None:
        return "0" * 40
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324  (git's own)


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
