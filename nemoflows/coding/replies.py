"""Reading what models wrote about code: edits that apply and compile, or words on what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from nemoflows.calls import Reply
from nemoflows.calls.contract import SHOWN, content, field
from nemoflows.coding import edits, functions, lines
from nemoflows.coding.compiling import Compiler
from nemoflows.coding.protected import Protection
from nemoflows.coding.types import Baseline, ChangePlan, Edit, Review
from nemoflows.errors import BadReply
from nemoflows.sandbox.trees import Tree

MAX_EDITS = 100
UNCHANGED = "The edits change nothing."
_BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_JSON = re.compile(r"\s*[{\[]")
_DEFINES = re.compile(r"^(?:async )?(?:def|class) ", re.MULTILINE)
Shown = Mapping[str, set[int]]


class Changed(NamedTuple):
    """A change that applies: the tree with it, and why it was made."""

    tree: Tree
    why: str


def read_plan(reply: Reply, tree: Tree) -> ChangePlan:
    """Return the plan; files that the repository does not have are left out."""
    summary: str = field(reply, "summary", str).strip()
    if not summary:
        raise BadReply("`summary` is empty.")
    files = [path for path in _texts(reply, "files") if path in tree.files]
    return ChangePlan(
        summary=summary, files=list(dict.fromkeys(files)), steps=_texts(reply, "steps")
    )


def read_edits(reply: Reply, tree: Tree, baseline: Baseline, shown: Shown) -> Changed:
    """Return the tree with the reply's edits applied.

    Args:
        shown: Numbers of the lines that were shown, by file.

    Raises:
        BadReply: There are none, one is refused, they change nothing, or a file no longer compiles.
    """
    compiler = Compiler()
    why, code = _written(reply) if functions.is_one(tree) else ("", "")
    if code:
        source = tree.text(functions.SOLUTION) or ""
        wanted = [lines.with_function(functions.SOLUTION, source, code, compiler)]
    else:
        _refuse_no_code(reply, tree)
        wanted, why = _wanted(reply, tree, shown, compiler), field(reply, "why", str)
    result = edits.apply(tree, wanted, Protection.of(baseline))
    if not isinstance(result, Tree):
        told = "; ".join(str(each) for each in result[:SHOWN])
        raise BadReply(f"Edits that cannot be applied: {told}.")
    if result.hash == tree.hash:
        raise BadReply(UNCHANGED)
    sources = {edit.path for edit in wanted if edit.path.endswith(".py")}
    _refuse_broken(sources, tree, result, compiler)
    return Changed(result, why[:400])


def read_review(reply: Reply) -> Review:
    """Return the review."""
    verdict = field(reply, "verdict", str)
    if verdict not in {"accept", "object"}:
        raise BadReply("`verdict` must be accept or object.")
    return Review(verdict=verdict, comments=_texts(reply, "comments")[:4])


def _texts(reply: Reply, name: str) -> list[str]:
    return [text for text in field(reply, name, list) if isinstance(text, str) and text.strip()]


def _written(reply: Reply) -> tuple[str, str]:
    """Return a reply's words and the function it writes; no code where it is JSON or has none."""
    blocks = [block for block in _BLOCK.findall(reply.text) if not _JSON.match(block)]
    if blocks:
        words = " ".join(reply.text.partition("```")[0].split())
        return words, next((b for b in reversed(blocks) if _DEFINES.search(b)), blocks[-1])
    return "", reply.text if _DEFINES.search(reply.text) and not _JSON.match(reply.text) else ""


def _refuse_no_code(reply: Reply, tree: Tree) -> None:
    if functions.is_one(tree) and not _JSON.match(reply.text):
        raise BadReply(
            "The reply holds no code. Write the whole function, with its `def`, in one block that "
            "begins with ```python and ends with ```."
        )


def _wanted(reply: Reply, tree: Tree, shown: Shown, compiler: Compiler) -> list[Edit]:
    """Return a reply's edits: a whole function, lines by their numbers, or by what they say."""
    told = content(reply)
    if functions.is_one(tree) and isinstance(told, dict) and isinstance(told.get("function"), str):
        source = tree.text(functions.SOLUTION) or ""
        return [lines.with_function(functions.SOLUTION, source, told["function"], compiler)]
    rows = field(reply, "edits", list)
    if not 0 < len(rows) <= MAX_EDITS:
        raise BadReply(f"`edits` has {len(rows):,} items; it needs 1 to {MAX_EDITS}.")
    found = [_edit(row) for row in rows]
    by_line = [edit for edit in found if isinstance(edit, lines.LineEdit)]
    texts = {edit.path: tree.text(edit.path) for edit in by_line if edit.path in tree.files}
    by_text = [edit for edit in found if isinstance(edit, Edit)]
    return [*lines.as_edits(by_line, texts, shown, compiler), *by_text]


def _edit(row: Any) -> Edit | lines.LineEdit:
    kind = Edit if isinstance(row, dict) and "search" in row else lines.LineEdit
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        names: Sequence[Any] = [each["loc"] for each in error.errors()]
        raise BadReply(
            f"Each of `edits` must be an object with path, first, last and replace; wrong: {names}."
        ) from error


def _refuse_broken(paths: Collection[str], before: Tree, after: Tree, compiler: Compiler) -> None:
    """Refuse a change after which a file does not compile that did, or that is new."""
    changed = [(path, after.text(path) or "") for path in sorted(paths)]
    broken = {
        path: told
        for (path, _), told in zip(changed, compiler.problems(changed), strict=True)
        if told
    }
    known = [(path, text) for path in broken if (text := before.text(path)) is not None]
    told = compiler.problems(known)
    was_broken = {path for (path, _), problem in zip(known, told, strict=True) if problem}
    for path in broken.keys() - was_broken:
        raise BadReply(f"{path} does not compile any more: {broken[path]}.")
