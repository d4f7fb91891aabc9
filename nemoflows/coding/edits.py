"""Apply search/replace edits to a tree, or say exactly why they cannot be applied.

A match may differ from the file in white space, and in nothing else. What is ambiguous, missing,
outside the repository or part of how the tests are run is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Literal

from nemoflows.coding.protected import NO_TESTS_KNOWN, Protection, folded_parts, misspelled
from nemoflows.coding.types import Edit
from nemoflows.sandbox.listing import is_inside
from nemoflows.sandbox.trees import Tree
from nemoflows.types import Value

Kind = Literal[
    "missing", "ambiguous", "no file", "exists", "outside", "protected", "no text", "too long"
]
MAX_FILE_CHARACTERS = 1 << 20
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024
"""Of a part of a path, as file systems limit it, and of a whole path below a temporary folder."""
_OTHER_SPELLING = re.compile(rb"[:\\]|~\d")
"""On Windows a part of a file, a folder, and the short form of another name."""


class Rejection(Value):
    """Why an edit was refused."""

    kind: Kind
    path: str
    detail: str

    def __str__(self) -> str:
        """Return it as the model is told."""
        return f"{self.path[:200]}: {self.kind}: {self.detail}"


def apply(
    tree: Tree,
    edits: Sequence[Edit],
    protection: Protection = NO_TESTS_KNOWN,
) -> Tree | list[Rejection]:
    """Return the tree with all edits applied in order, or every edit that was refused and why.

    Args:
        protection: What the baseline keeps.
    """
    texts: dict[str, str] = {}
    rejected = []
    for edit in edits:
        result = _one(tree, texts, edit, protection)
        if isinstance(result, str):
            result = _encodable(tree, edit, result)
        if isinstance(result, Rejection):
            rejected.append(result)
        else:
            texts[edit.path] = result
    return rejected or tree.changed(texts)


def _encodable(tree: Tree, edit: Edit, text: str) -> str | Rejection:
    try:
        tree.changed({edit.path: text})
    except UnicodeEncodeError as error:
        lacks = f"the file is {error.encoding}, which lacks {text[error.start]!r}"
        return _refuse(edit, "no text", lacks)
    return text


def _one(tree: Tree, texts: dict[str, str], edit: Edit, protection: Protection) -> str | Rejection:
    text = texts.get(edit.path, tree.text(edit.path))
    is_known = edit.path in tree.files or edit.path in texts
    refused = _refused_place(edit, protection)
    if refused is None and is_known and text is None:
        refused = _refuse(edit, "no text", "the file is not text in the encoding that it names")
    if refused is not None:
        return refused
    if is_known and text is not None:
        return _changed(text, edit)
    return _new(edit, {*tree.files, *tree.links, *texts}, protection)


def _refuse(edit: Edit, kind: Kind, detail: str) -> Rejection:
    return Rejection(kind=kind, path=edit.path, detail=detail)


def _refused_place(edit: Edit, protection: Protection) -> Rejection | None:
    if max(len(edit.search), len(edit.replace)) > MAX_FILE_CHARACTERS:
        return _refuse(edit, "too long", f"{MAX_FILE_CHARACTERS:,} characters at most")
    if not is_inside(edit.path) or ".git" in folded_parts(edit.path):
        return _refuse(edit, "outside", "only files of the repository, by path from its root")
    if not _is_writable(edit.path):
        return _refuse(edit, "outside", "a path is printable and no longer than files can have")
    if protection.covers(edit.path):
        return _refuse(edit, "protected", "tests, and the settings of tools, stay as they are")
    return None


def _is_writable(path: str) -> bool:
    names = [os.fsencode(name) for name in path.split("/")] if path.isprintable() else []
    odd = any(name.endswith((b".", b" ")) or _OTHER_SPELLING.search(name) for name in names)
    return bool(names) and not odd and len(b"/".join(names)) <= MAX_PATH_BYTES and (
        max(map(len, names)) <= MAX_NAME_BYTES
    )  # fmt: skip


def _changed(text: str, edit: Edit) -> str | Rejection:
    if not edit.search.strip():
        told = _refuse(edit, "exists", "say in `search` what to replace")
        return edit.replace if not text.strip() else told
    spans = _exact(text, edit.search) or _but_for_white_space(text, edit.search)
    if len(spans) != 1:
        kind: Kind = "ambiguous" if spans else "missing"
        found = "stands more than once" if spans else "stands nowhere"
        return _refuse(edit, kind, f"`search` {found} in the file; copy more of it, line by line")
    return _replaced(text, edit, *spans[0])


def _new(edit: Edit, known: Collection[str], protection: Protection) -> str | Rejection:
    if edit.search.strip():
        told = "there is no such file; an empty `search` makes one"
        return _refuse(edit, "no file", told)
    if edit.path in known:
        return _refuse(edit, "exists", "it is a link to another file of the repository: edit that")
    parts = PurePosixPath(edit.path).parts
    above = {"/".join(parts[:n]) for n in range(1, len(parts))}
    if above & set(known) or any(path.startswith(f"{edit.path}/") for path in known):
        return _refuse(edit, "exists", "a file cannot lie in a file, nor stand for a folder")
    if misspelled(edit.path, known):
        return _refuse(edit, "exists", "its name differs from a known one in spelling alone")
    if protection.hides(edit.path, known):
        return _refuse(edit, "protected", "a new file may not hide a module of Python or pytest")
    return edit.replace


def _exact(text: str, search: str) -> list[tuple[int, int]]:
    return [(start, start + len(search)) for start in _first_two(text, search)]


def _but_for_white_space(text: str, search: str) -> list[tuple[int, int]]:
    """Return where whole lines are the same but for their white space."""
    wanted = _evenly_spaced(search.strip("\n"))
    whole = _evenly_spaced(text)
    n = wanted.count("\n") - 1
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    lines = (whole.count("\n", 0, start) for start in _first_two(whole, wanted))
    return [(starts[line], starts[line + n] - 1) for line in lines]


def _evenly_spaced(text: str) -> str:
    """Return a text's lines with one blank between words, each between two line feeds."""
    return "\n".join(["", *(" ".join(line.split()) for line in text.split("\n")), ""])


def _first_two(text: str, search: str) -> list[int]:
    """Return where a text stands at first and for a second time: more is not asked."""
    first = text.find(search)
    second = text.find(search, first + 1) if first >= 0 else -1
    return [at for at in (first, second) if at >= 0]


def _replaced(text: str, edit: Edit, start: int, end: int) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    replacement = edit.replace
    if text[start:end] != edit.search:
        replacement = indented_like(text[start:end], edit.search, edit.replace.strip("\n"))
    written = replacement.replace("\r\n", "\n").replace("\n", newline)
    if text[start:end].endswith("\r") and not written.endswith("\r"):
        written += "\r"
    return text[:start] + written + text[end:]


def indented_like(found: str, search: str, replacement: str) -> str:
    """Return the replacement moved by as much as the match is from what was searched for."""
    is_at, was_at = _indent(found), _indent(search)
    if is_at == was_at:
        return replacement
    lines = replacement.split("\n")
    if is_at.startswith(was_at):
        more = is_at[len(was_at) :]
        return "\n".join(more + line if line.strip() else line for line in lines)
    less = was_at.removesuffix(is_at) if was_at.endswith(is_at) else was_at
    return "\n".join(line.removeprefix(less) for line in lines)


def _indent(text: str) -> str:
    first = next((line for line in text.split("\n") if line.strip()), "")
    return first[: len(first) - len(first.lstrip())]
