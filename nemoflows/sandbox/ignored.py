"""git's ignore rules, read as data: which files it would leave out.

Matching takes time in proportion to a path's length for each rule, whatever wildcards are in it,
and rules times paths are bounded: rules come from whoever wrote the repository.

Source: gitignore(5). Not covered: `core.excludesFile` in a repository's own settings, a slash
within a set of characters, and rules for a file system that does not tell letters' case apart.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from nemoflows.errors import BadInput
from nemoflows.storage.beneath import Root

MAX_RULES_BYTES, MAX_RULE_BYTES = 256 << 10, 4096
"""Of one file of rules, and of one: a longer one matches no path."""
TRIALS_PER_RULE = 500
"""What it costs to read a rule, in comparisons."""
MAX_TRIALS = 50_000_000
"""Of a rule with a path, in one listing: a tree of 70,000 files with 100 rules takes 7 million."""

_EXCLUDES_FILE = re.compile(
    rb"^[ \t]*\[core\][^\[]*?^[ \t]*excludesfile[ \t]*=[ \t]*\"?([^\"\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_MEMBER = re.compile(rb"\[:([a-z]+):\]|\\?(.)(?:-\\?([^\]]))?", re.DOTALL)
_CLASSES = {
    b"alnum": b"0-9A-Za-z", b"alpha": b"A-Za-z", b"blank": rb"\t ", b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": b"0-9", b"graph": b"!-~", b"lower": b"a-z", b"print": b" -~", b"space": rb"\t\n\r ",
    b"punct": rb"!-/:-@\[-`{-~", b"upper": b"A-Z", b"xdigit": b"0-9A-Fa-f",
}  # fmt: skip


class _Rule(NamedTuple):
    excludes: bool
    folders_only: bool
    regex: bytes


class Rules:
    """The rules of one file, as what its own folder lies at."""

    def __init__(self, data: bytes) -> None:
        """Take the file's content; a rule that git cannot read is passed over, as git does."""
        rules = _rules(data)
        self.n = len(rules)
        self._runs: list[tuple[bool, re.Pattern[bytes], re.Pattern[bytes]]] = [
            (excludes, *_compiled(list(run)))
            for excludes, run in groupby(reversed(rules), lambda rule: rule.excludes)
        ]

    def decide(self, path: bytes, *, is_folder: bool) -> bool | None:
        """Return whether a path, as seen from the rules' folder, is ignored; None if none says."""
        for excludes, of_files, of_folders in self._runs:
            if (of_folders if is_folder else of_files).fullmatch(path):
                return excludes
        return None


class Chain(NamedTuple):
    """Rules in effect in a folder, the nearest first, each with where its paths begin."""

    rules: tuple[tuple[int, Rules], ...] = ()

    def below(self, folder: str, data: bytes) -> Chain:
        """Return the chain with the rules that a folder adds."""
        start = len(os.fsencode(folder)) + 1 if folder else 0
        return Chain(((start, Rules(data)), *self.rules))

    @property
    def n(self) -> int:
        """Return how many rules there are."""
        return sum(rules.n for _, rules in self.rules)

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Return whether the nearest rules that say anything of a path ignore it."""
        name = os.fsencode(path)
        for start, rules in self.rules:
            found = rules.decide(name[start:], is_folder=is_folder)
            if found is not None:
                return found
        return False


def of_user() -> bytes:
    """Return the rules that a user has for all repositories; nothing where they cannot be read."""
    home = Path(os.environ.get("HOME") or "/")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "git"
    places = [settings / "ignore"]
    for path in (settings / "config", home / ".gitconfig"):
        with suppress(OSError):
            found = _EXCLUDES_FILE.findall(path.read_bytes())
            places += [home / os.fsdecode(name).removeprefix("~/") for name in found]
    with suppress(OSError):
        return places[-1].read_bytes()
    return b""


def read_rules(root: Root, name: str) -> bytes:
    """Return the content of a file of rules; nothing where there is none.

    Raises:
        BadInput: It is too long, or may not be read.
    """
    try:
        return root.read(name, limit_bytes=MAX_RULES_BYTES)[0]
    except OSError as error:
        if error.errno not in {errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO}:
            return b""  # there is none, or a link or a pipe, which git passes over as well
        raise BadInput(
            f"The ignore rules {name!r} cannot be read: {error.strerror}. Without them, files that "
            "git leaves out, such as keys, would be read. Nothing was run."
        ) from error


def _rules(data: bytes) -> list[_Rule]:
    found = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        whole = line.removesuffix(b"\r")
        pattern = whole.rstrip(b" ")
        pattern += b" " if pattern.endswith(b"\\") and pattern != whole else b""
        if pattern.startswith(b"#") or not pattern.strip(b"/!") or len(pattern) > MAX_RULE_BYTES:
            continue
        keeps = pattern.startswith(b"!")
        pattern = pattern.removeprefix(b"!")
        with suppress(ValueError):  # of a pattern that is none, which matches nothing
            found.append(_Rule(not keeps, pattern.endswith(b"/"), _regex(pattern)))
    return found


def _compiled(run: Sequence[_Rule]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return what matches files, and what matches folders, by any of the rules."""
    of_files = [rule.regex for rule in run if not rule.folders_only] or [b"(?!)"]
    of_folders = [rule.regex for rule in run]
    return re.compile(b"|".join(of_files), re.DOTALL), re.compile(b"|".join(of_folders), re.DOTALL)


def _regex(pattern: bytes) -> bytes:
    """Return a pattern as an expression that never goes back on what a wildcard took.

    The first place where the piece after a wildcard fits is as good as any later one, where
    another wildcard follows: all but the last are atomic.
    """
    parts = pattern.removesuffix(b"/").split(b"/")
    if len(parts) == 1:
        parts.insert(0, b"**")
    runs: list[list[bytes]] = [[]]
    for part in parts[not parts[0] :]:
        if part == b"**":
            runs.append([])
        else:
            runs[-1].append(_segment(part))
    first, *more = [b"/".join(run) for n, run in enumerate(runs) if run or n in {0, len(runs) - 1}]
    if not more:
        return first
    *middle, last = more
    inner = b"".join(b"(?>(?:[^/]+/)*?" + run + b"/)" for run in middle)
    start = first + b"/" if first else b""
    return start + inner + (b"(?:[^/]+/)*" + last if last else b".+")


def _segment(glob: bytes) -> bytes:
    """Return what matches one part of a path.

    Raises:
        ValueError: It is malformed.
    """
    pieces, i = [b""], 0
    while i < len(glob):
        char, i = glob[i : i + 1], i + 1
        if char == b"*":
            pieces += [b""] if pieces[-1] or len(pieces) == 1 else []
        elif char == b"[":
            i, found = _bracket(glob, i)
            pieces[-1] += found
        elif char == b"?":
            pieces[-1] += b"[^/]"
        else:
            escaped = char == b"\\" and i < len(glob)
            pieces[-1] += re.escape(glob[i : i + 1] if escaped else char)
            i += escaped
    first, *more = pieces
    atomic = b"".join(b"(?>[^/]*?" + piece + b")" for piece in more[:-1])
    return first + atomic + (b"[^/]*" + more[-1] if more else b"")


def _bracket(glob: bytes, i: int) -> tuple[int, bytes]:
    """Return where a set of characters ends, and what matches it."""
    negated = glob[i : i + 1] in {b"!", b"^"}
    i, body = i + negated, b""
    while not body or glob[i : i + 1] != b"]":
        member = _MEMBER.match(glob, i)
        if member is None or (member[1] and member[1] not in _CLASSES):
            raise ValueError("a set of characters without an end, or of no known class")
        name, low, high = member.groups()
        i = member.end()
        body += _CLASSES[name] if name else re.escape(low)
        body += b"-" + re.escape(high) if high and low <= high else b""
    return i + 1, b"(?!/)[" + (b"^" if negated else b"") + body + b"]"
