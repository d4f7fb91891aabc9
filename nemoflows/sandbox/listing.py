"""Which files of a repository are read: what git tracks, and what it would track.

git itself is never asked: the settings of a repository name programs that git starts. Its index and
its ignore rules are read as data instead.

Not covered: split and sparse indexes, of which the files are listed that no rule ignores.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from nemoflows.errors import BadInput
from nemoflows.sandbox.ignored import MAX_TRIALS, TRIALS_PER_RULE, Chain, of_user, read_rules
from nemoflows.storage.beneath import MAX_PATH_BYTES, Root

MAX_FILES = 50_000
MAX_INDEX_BYTES = 64 << 20
TRIALS_PER_ENTRY = 100
"""What it costs to look at a file or a folder, in comparisons of a rule."""
NO_FILE, OWN_REPOSITORY = "not a regular file", "a repository of its own"
"""Why something is left out: a link, a pipe, a submodule that is not there; or one that is."""
_HEADER = struct.Struct(">4sLL")
KEY = "looks like a key, and git does not track it"
_KEY_FILES = re.compile(
    r"(?:^|/)(?:\.(?:netrc|npmrc|pypirc|pgpass|htpasswd|dockercfg|git-credentials)|"
    r"\.(?:aws|docker|kube|ssh|azure|gnupg)/.*|id_(?:rsa|dsa|ecdsa|ed25519)|"
    r"[^/]*\.env(?:\.(?!example$|sample$|template$|dist$)[^/]*)?|"
    r"[^/]*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|tfvars|tfstate))$",
    re.IGNORECASE,
)
"""Names of files that hold keys: what is read here may go to a model, or to a store."""
_LEFT_OUT = {
    ".git", ".hg", ".svn", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".eggs",
}  # fmt: skip


@lru_cache(maxsize=1 << 16)
def folded(name: str) -> str:
    """Return a name as the least exact file system compares it.

    Without letters' case and what Unicode calls compatible, without marks that are not seen,
    without dots and blanks at the end.
    """
    if name.isascii():
        return name.lower().rstrip(". ")
    seen = "".join(
        c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf"
    )
    return unicodedata.normalize("NFKC", seen.casefold()).rstrip(". ")


def is_inside(path: str) -> bool:
    """Return whether a path names something below the root, in plain spelling."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts) and path == "/".join(parts) and not path.startswith("/") and ".." not in parts
    )


class Listing:
    """The files of a repository by name, none of them read, and what was left out."""

    def __init__(self, folder: Path) -> None:
        """Take the repository's folder, or one below it."""
        self.folder = folder.resolve()
        self.top = _checkout(self.folder)
        self.base = "" if self.top in {None, self.folder} else _relative(self.folder, self.top)
        self.left_out: list[str] = []
        self._n_trials = 0
        self._nested: set[str] = set()

    def names(self, root: Root) -> list[str]:
        """Return the names of all files, from the folder on.

        Args:
            root: The folder.

        Raises:
            BadInput: There are too many, or the rules cannot be read.
        """
        if self.top is None:
            return self._without_keys(self._walked(root, None))
        with Root(self.top) as checkout:
            chain = self._above(checkout)
        tracked = {*self._tracked(self.top)}
        walked = self._without_keys(set(self._walked(root, chain)) - tracked)
        found = sorted({*tracked, *walked} - self._nested)
        return found or self._without_keys(self._walked(root, None))

    def commit(self) -> str:
        """Return the id of the commit that is checked out; empty where that is not to be read."""
        with suppress(OSError), Root(self.top or "") as checkout:
            git = _git_folder(checkout, self.top or self.folder) or Path()
            with Root(git) as settings:
                text = settings.read("HEAD", limit_bytes=MAX_PATH_BYTES)[0]
            named = re.fullmatch(rb"ref: (refs/\S+)\s*", text)
            with Root(_common(git)) as settings:
                return _of_branch(settings, os.fsdecode(named[1])) if named else _id(text)
        return ""

    def _without_keys(self, names: Iterable[str]) -> list[str]:
        kept = []
        for name in sorted(names):
            if _KEY_FILES.search(name):
                self.left_out.append(f"{name}: {KEY}")
            else:
                kept.append(name)
        return kept

    def _above(self, checkout: Root) -> Chain:
        """Return the rules that hold for the folder before its own."""
        chain = Chain().below("", of_user())
        if git := _git_folder(checkout, self.top or self.folder):
            with _readable(git), Root(_common(git)) as settings:
                chain = chain.below("", read_rules(settings, "info/exclude"))
        parts = self.base.split("/") if self.base else []
        for n in range(len(parts)):
            folder = "/".join(parts[:n])
            chain = chain.below(folder, read_rules(checkout, f"{folder}/.gitignore".lstrip("/")))
        return chain

    def _walked(self, root: Root, chain: Chain | None) -> Iterator[str]:
        """Yield the files that no rule ignores; without rules, those that no tool left behind."""
        n, folders = 0, [("", chain)]
        while folders:
            folder, above = folders.pop()
            here = f"{folder}/" if folder else ""
            try:
                entries = root.entries(folder)
            except OSError as error:
                self.left_out.append(f"{folder}: {error.strerror}")
                continue
            names = {name for name, _ in entries}
            if folder and ".git" in names and above is not None:
                self._nested.add(folder)
                self.left_out.append(f"{folder}: {OWN_REPOSITORY}")
                continue
            if above is not None and ".gitignore" in names:
                rules = read_rules(root, f"{here}.gitignore")
                above = above.below(self._from_top(folder), rules)
                self._count(TRIALS_PER_RULE * above.rules[0][1].n)
            for name, is_folder in entries:
                if self._passed_over(f"{here}{name}", above, is_folder=is_folder):
                    continue
                if is_folder:
                    folders.append((f"{here}{name}", above))
                    continue
                n += 1
                self._refuse_many(n)
                yield f"{here}{name}"

    def _passed_over(self, path: str, chain: Chain | None, *, is_folder: bool) -> bool:
        name = path.rpartition("/")[2]
        self._count(TRIALS_PER_ENTRY + (chain.n if chain else 0))
        if chain is None:
            return is_folder and name in _LEFT_OUT
        if folded(name) == ".git":
            return True
        return chain.ignores(self._from_top(path), is_folder=is_folder)

    def _count(self, n_trials: int) -> None:
        self._n_trials += n_trials
        if self._n_trials > MAX_TRIALS:
            raise BadInput(
                f"The repository {str(self.folder)!r} has so many ignore rules and files that to "
                f"compare them takes more than {MAX_TRIALS:,} trials. Name the part that the issue "
                "is about. Nothing was run."
            )

    def _from_top(self, path: str) -> str:
        return f"{self.base}/{path}".strip("/") if self.base else path

    def _tracked(self, top: Path) -> Iterator[str]:
        """Yield what git's index lists below the folder, whether it is there or not."""
        with Root(top) as checkout:
            git = _git_folder(checkout, top)
        start = f"{self.base}/" if self.base else ""
        try:
            with Root(git or top) as settings:
                data = settings.read("index", limit_bytes=MAX_INDEX_BYTES)[0] if git else b""
            for n, name in enumerate(_index(data)):
                self._refuse_many(n)
                if name.startswith(start) and is_plain(name):
                    yield name.removeprefix(start)
        except FileNotFoundError:
            return
        except (OSError, ValueError, IndexError) as error:
            why = getattr(error, "strerror", None) or error
            self.left_out.append(
                f".git/index: not readable ({why}): files that git both tracks and ignores"
            )

    def _refuse_many(self, n: int) -> None:
        if n > MAX_FILES:
            raise BadInput(
                f"The repository {str(self.folder)!r} has more than {MAX_FILES:,} files. Name the "
                "part that the issue is about."
            )


def _relative(folder: Path, top: Path) -> str:
    return folder.relative_to(top).as_posix()


def is_plain(name: str) -> bool:
    """Return whether a path names something below the root that is no part of git's own."""
    return is_inside(name) and all(folded(part) != ".git" for part in name.split("/"))


def _checkout(folder: Path) -> Path | None:
    """Return the folder of the checkout that a folder belongs to; None where it is in none."""
    for top in (folder, *folder.parents):
        with _readable(top / ".git"):
            if (top / ".git/HEAD").exists() or (top / ".git").is_file():
                return top
    return None


@contextmanager
def _readable(git: Path) -> Iterator[None]:
    """Refuse a repository whose settings are closed: what they leave out, such as keys, is read."""
    try:
        yield
    except PermissionError as error:
        raise BadInput(
            f"{git} cannot be read: {error.strerror}. Without git's rules, files that it leaves "
            "out, such as keys, would be read. Nothing was run."
        ) from error


def _git_folder(checkout: Root, top: Path) -> Path | None:
    """Return where the index lies; a file `.git` of a worktree or a submodule names the place."""
    if (top / ".git").is_dir():
        return top / ".git"
    with suppress(OSError):
        text = checkout.read(".git", limit_bytes=4096)[0]
        if found := re.fullmatch(rb"gitdir: (.+?)\s*", text):
            place = top / os.fsdecode(found[1])
            return place if place.is_dir() else None
    return None


def _common(git: Path) -> Path:
    """Return the folder with what all worktrees share, rules and branches."""
    try:
        with Root(git) as settings:
            data = settings.read("commondir", limit_bytes=MAX_PATH_BYTES)[0]
    except PermissionError:
        raise
    except OSError:  # there is none; or a link, a pipe, a device
        return git
    common = git / os.fsdecode(data.strip())
    return common if common.is_dir() else git


def _of_branch(settings: Root, name: str) -> str:
    with suppress(OSError):
        return _id(settings.read(name, limit_bytes=MAX_PATH_BYTES)[0])
    packed = settings.read("packed-refs", limit_bytes=MAX_INDEX_BYTES)[0]
    found = re.search(
        rb"^([0-9a-f]{40,64}) " + re.escape(os.fsencode(name)) + rb"$", packed, re.MULTILINE
    )
    return _id(found[1]) if found else ""


def _id(text: bytes) -> str:
    found = re.fullmatch(rb"([0-9a-f]{40}|[0-9a-f]{64})\s*", text)
    return found[1].decode() if found else ""


def _index(data: bytes) -> Iterator[str]:
    """Yield the names of files in an index.

    Raises:
        ValueError: It is none.

    Source: gitformat-index(5), versions 2 to 4.
    """
    magic, version, n = _HEADER.unpack_from(data) if len(data) > _HEADER.size else (b"", 0, 0)
    if magic != b"DIRC" or version not in {2, 3, 4}:
        raise ValueError(f"no index of git's, or of an unknown version ({version})")
    hash_bytes = 32 if hashlib.sha256(data[:-32]).digest() == data[-32:] else 20
    at, name = _HEADER.size, b""
    for _ in range(n):
        flags_at = at + 40 + hash_bytes
        start = flags_at + (4 if version > 2 and data[flags_at] & 0x40 else 2)
        kept, start = _varint(data, start, len(name)) if version == 4 else (0, start)
        end = data.index(b"\0", start, start + MAX_PATH_BYTES)
        name = name[:kept] + data[start:end]
        mode = int.from_bytes(data[at + 24 : at + 28])
        if len(name) < MAX_PATH_BYTES and not stat.S_ISDIR(mode):
            yield os.fsdecode(name)
        at = end + 1 if version == 4 else at + (end - at + 8 & ~7)


def _varint(data: bytes, at: int, length: int) -> tuple[int, int]:
    """Return how much is kept of a name of this length, and where the rest of the next begins."""
    n = data[at] & 0x7F
    while data[at] & 0x80 and n < MAX_PATH_BYTES:
        at += 1
        n = (n + 1 << 7) | (data[at] & 0x7F)
    return max(0, length - n), at + 1
