"""Apply search/replace edits to a tree, or say exactly why they cannot be applied.

A match may differ from the file in white space, and in nothing else. What is ambiguous, missing,
outside the repository or part of how the tests are run is refused.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Literal

from nemoflows.coding.types import Edit, TestEdits
from nemoflows.sandbox.trees import Tree, is_inside
from nemoflows.types import Value

Kind = Literal["missing", "ambiguous", "no file", "exists", "outside", "protected", "no text"]
MAX_FILE_CHARACTERS = 1 << 20
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024
"""Of a part of a path, as file systems limit it, and of a whole path below a temporary folder."""
_TEST_NAME = re.compile(r"test_.*\.py|.*_test\.py|tests?\.py|conftest\.py")
_TEST_FOLDERS = {"test", "tests"}
_RUNNER_FILES = {
    "conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "pyproject.toml",
    "setup.cfg", "tox.ini", "sitecustomize.py", "usercustomize.py", ".coveragerc",
}  # fmt: skip
_RUNNER_MODULES = {"pytest", "_pytest", "py", "pluggy", "_nemoflows_sandbox"} | set(
    sys.stdlib_module_names
)


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
    *,
    test_edits: TestEdits = "refuse",
    tests: Collection[str] = (),
) -> Tree | list[Rejection]:
    """Return the tree with all edits applied in order, or every edit that was refused and why.

    Args:
        test_edits: Whether test files may be changed.
        tests: Files that hold tests, whatever their names.
    """
    texts: dict[str, str] = {}
    rejected = []
    for edit in edits:
        result = _one(tree, texts, edit, is_protected(edit.path, test_edits, tests))
        if isinstance(result, Rejection):
            rejected.append(result)
        else:
            texts[edit.path] = result
    return rejected or tree.changed(texts)


def is_test(path: str) -> bool:
    """Return whether a file holds tests, or what tests are made of."""
    pure = PurePosixPath(path)
    return bool(_TEST_NAME.fullmatch(pure.name)) or bool(_TEST_FOLDERS & set(pure.parts[:-1]))


def runs_tests(path: str) -> bool:
    """Return whether a file decides how tests are run: never the candidate's."""
    pure = PurePosixPath(path)
    return pure.name in _RUNNER_FILES or pure.suffix == ".pth"


def files_of(collected: Sequence[str]) -> frozenset[str]:
    """Return the files that tests were collected from, by the tests' ids.

    A file whose tests are examples in its own documentation is none: it is what they test.
    """
    return frozenset(test.partition("::")[0] for test in collected if not _is_example(test))


def _is_example(test: str) -> bool:
    """Return whether a test is a doctest, which is named by the dotted path of what it is about."""
    path, _, name = test.partition("::")
    return "." in name.partition("[")[0] or name == PurePosixPath(path).stem


def is_protected(path: str, test_edits: TestEdits, tests: Collection[str] = ()) -> bool:
    """Return whether a file is taken from the baseline, whatever a candidate wrote."""
    return runs_tests(path) or (test_edits == "refuse" and (is_test(path) or path in tests))


def _one(tree: Tree, texts: dict[str, str], edit: Edit, protected: bool) -> str | Rejection:
    text = texts.get(edit.path, tree.text(edit.path))
    is_known = edit.path in tree.files or edit.path in texts
    refused = _refused_place(edit, protected)
    if refused is None and is_known and text is None:
        refused = _refuse(edit, "no text", "the file is not UTF-8 text")
    if refused is not None:
        return refused
    if is_known and text is not None:
        return _changed(text, edit)
    return _new(edit, {*tree.files, *texts})


def _refuse(edit: Edit, kind: Kind, detail: str) -> Rejection:
    return Rejection(kind=kind, path=edit.path, detail=detail)


def _refused_place(edit: Edit, protected: bool) -> Rejection | None:
    parts = PurePosixPath(edit.path.lower()).parts
    if not is_inside(edit.path) or ".git" in parts:
        return _refuse(edit, "outside", "only files of the repository, by path from its root")
    if not _is_writable(edit.path):
        return _refuse(edit, "outside", "a path is printable and no longer than files can have")
    if any(part.startswith(".git") for part in parts):
        return _refuse(edit, "protected", "what git and its hosts go by stays as it is")
    if protected:
        return _refuse(edit, "protected", "tests and their settings stay as they are")
    return None


def _is_writable(path: str) -> bool:
    names = [os.fsencode(name) for name in path.split("/")] if path.isprintable() else []
    return bool(names) and len(b"/".join(names)) <= MAX_PATH_BYTES and (
        max(map(len, names)) <= MAX_NAME_BYTES
    )  # fmt: skip


def _changed(text: str, edit: Edit) -> str | Rejection:
    if not edit.search.strip():
        told = _refuse(edit, "exists", "say in `search` what to replace")
        return edit.replace if not text.strip() else told
    spans = _exact(text, edit.search) or _but_for_white_space(text, edit.search)
    if len(spans) != 1:
        kind: Kind = "ambiguous" if spans else "missing"
        found = f"stands {len(spans)} times" if spans else "stands nowhere"
        return _refuse(edit, kind, f"`search` {found} in the file; copy more of it, line by line")
    return _replaced(text, edit, *spans[0])


def _new(edit: Edit, known: Collection[str]) -> str | Rejection:
    if edit.search.strip():
        told = "there is no such file; an empty `search` makes one"
        return _refuse(edit, "no file", told)
    parts = PurePosixPath(edit.path).parts
    above = {"/".join(parts[:n]) for n in range(1, len(parts))}
    if above & set(known) or any(path.startswith(f"{edit.path}/") for path in known):
        return _refuse(edit, "exists", "a file cannot lie in a file, nor stand for a folder")
    top = parts[1 if parts[0] == "src" and len(parts) > 1 else 0].removesuffix(".py")
    if top in _RUNNER_MODULES:
        return _refuse(edit, "protected", "a new file may not hide a module of Python")
    return edit.replace[:MAX_FILE_CHARACTERS]


def _exact(text: str, search: str) -> list[tuple[int, int]]:
    found, start = [], text.find(search)
    while start >= 0:
        found.append((start, start + len(search)))
        start = text.find(search, start + 1)
    return found


def _but_for_white_space(text: str, search: str) -> list[tuple[int, int]]:
    """Return where whole lines are the same but for their white space."""
    wanted = [line.split() for line in search.strip("\n").split("\n")]
    lines = text.split("\n")
    words = [line.split() for line in lines]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    n = len(wanted)
    return [
        (starts[i], starts[i + n] - 1)
        for i in range(len(lines) - n + 1)
        if words[i : i + n] == wanted
    ]


def _replaced(text: str, edit: Edit, start: int, end: int) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    replacement = edit.replace
    if text[start:end] != edit.search:
        replacement = _indented_like(text[start:end], edit.search, edit.replace.strip("\n"))
    written = replacement.replace("\r\n", "\n").replace("\n", newline)
    if text[start:end].endswith("\r") and not written.endswith("\r"):
        written += "\r"
    return text[:start] + written + text[end:]


def _indented_like(found: str, search: str, replacement: str) -> str:
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
