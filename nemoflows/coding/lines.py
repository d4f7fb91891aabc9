"""Edits that name lines by their numbers, and whole functions, as edits of a file's text."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from pydantic import Field

from nemoflows.coding.compiling import Compiler
from nemoflows.coding.edits import indented_like
from nemoflows.coding.types import Edit
from nemoflows.errors import BadReply
from nemoflows.types import Value

_NUMBER = re.compile(r"\s*\d+\| ?")
_FENCED = re.compile(r"\s*```\w*\n(.*?)\n?```\s*", re.DOTALL)


class LineEdit(Value):
    """Other text in the place of whole lines; no lines are a new file."""

    path: str
    first: int = Field(ge=0)
    last: int = Field(ge=0)
    replace: str


def numbered(rows: Sequence[str], kept: Collection[int], gap: str) -> str:
    """Return the rows that are kept, counted from 0, each behind its number, counted from 1."""
    shown, last = [], -1
    for n in sorted(kept):
        shown += [gap] if n != last + 1 else []
        shown.append(f"{n + 1}| {rows[n]}")
        last = n
    return "\n".join(shown)


def as_edits(
    wanted: Sequence[LineEdit],
    texts: Mapping[str, str | None],
    shown: Mapping[str, set[int]],
    compiler: Compiler,
) -> list[Edit]:
    """Return edits of lines as one edit of each file.

    Args:
        texts: Of the files by path; None is a file of bytes.
        shown: Numbers, from 1, of the lines that were shown of each file.

    Raises:
        BadReply: Lines were not shown, or two edits are of the same ones.
    """
    found = []
    for path in dict.fromkeys(edit.path for edit in wanted):
        edits = sorted((e for e in wanted if e.path == path), key=lambda edit: edit.first)
        text = texts.get(path)
        if path not in texts or not text:
            found += [Edit(path=path, search="", replace=_bare(edit.replace)) for edit in edits]
            continue
        _refuse_unseen(path, edits, shown.get(path, set()))
        new = _written(text, edits, aligned=False)
        if path.endswith(".py") and compiler.problems([(path, new)])[0]:
            moved = _written(text, edits, aligned=True)  # small models lose the indentation
            new = new if compiler.problems([(path, moved)])[0] else moved
        found.append(Edit(path=path, search=text, replace=new))
    return found


def _refuse_unseen(path: str, edits: Sequence[LineEdit], shown: set[int]) -> None:
    for edit in edits:
        if not edit.first or not set(range(edit.first, max(edit.first, edit.last) + 1)) <= shown:
            told = f"lines {edit.first} to {edit.last} of {path} were not shown"
            raise BadReply(f"{told}; it has {_ranges(shown)}.")
    for one, other in pairwise(edits):
        if other.first <= one.last:
            raise BadReply(f"Two edits of {path} are both of line {other.first}.")


def _ranges(shown: set[int]) -> str:
    starts = [n for n in sorted(shown) if n - 1 not in shown]
    ends = [n for n in sorted(shown) if n + 1 not in shown]
    told = ", ".join(f"{a} to {b}" for a, b in zip(starts, ends, strict=True))
    return f"lines {told}" if told else "no lines that were shown"


def _written(text: str, edits: Sequence[LineEdit], *, aligned: bool) -> str:
    rows = text.split("\n")
    for edit in reversed(edits):
        old = rows[edit.first - 1 : max(edit.first, edit.last)]
        new = _bare(edit.replace)
        if aligned:
            new = indented_like("\n".join(old), new, new)
        end = "\r" if old[0].endswith("\r") else ""
        lines = [line.removesuffix("\r") + end for line in new.split("\n")] if new else []
        rows[edit.first - 1 : max(edit.first, edit.last)] = lines
    return "\n".join(rows)


def _bare(replace: str) -> str:
    """Return new text without a fence, numbers before its lines, and a last line end."""
    fenced = _FENCED.fullmatch(replace)
    lines = (fenced[1] if fenced else replace).removesuffix("\n").split("\n")
    told = [line for line in lines if line.strip()]
    if told and all(map(_NUMBER.match, told)):
        lines = [_NUMBER.sub("", line, count=1) for line in lines]
    return "\n".join(lines)


def with_function(path: str, source: str, written: str, compiler: Compiler) -> Edit:
    """Return a file with a function in the place of the one that has its name.

    Raises:
        BadReply: It does not compile, or is no function of the file.
    """
    new = _bare(written)
    if problem := next(filter(None, compiler.problems([(path, new), (path, source)])), ""):
        raise BadReply(f"The function does not compile: {problem}.")
    body, old = ast.parse(new).body, ast.parse(source).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined = [node for node in old if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if not names & (wanted := {node.name for node in defined}):
        aliases = dict(_aliases(body, wanted))
        names, new = {*names, *aliases}, "\n\n\n".join([new, *aliases.values()])
    taken = [node for node in defined if node.name in names]
    if not taken and (defined or all(isinstance(n, ast.Import | ast.ImportFrom) for n in body)):
        known = " or ".join(node.name for node in defined) or "the function"
        raise BadReply(f"The reply must define {known}: write it whole, from `def` to its end.")
    rows = source.split("\n")
    place = min((_first(node) for node in taken), default=len(rows) + 1)
    for node in reversed(taken):
        del rows[_first(node) - 1 : node.end_lineno]
    rows[place - 1 : place - 1] = new.split("\n")
    return Edit(path=path, search=source if source.strip() else "", replace="\n".join(rows))


def _aliases(body: Sequence[ast.stmt], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield names that only methods have, as in a `class Solution`, with lines that define them."""
    for owner in (node for node in body if isinstance(node, ast.ClassDef)):
        for each in owner.body:
            if isinstance(each, ast.FunctionDef) and each.name in names:
                first = [*each.args.posonlyargs, *each.args.args][:1]
                made = "()" if first and first[0].arg in {"self", "cls"} else ""
                yield each.name, f"{each.name} = {owner.name}{made}.{each.name}"


def _first(node: ast.FunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])
