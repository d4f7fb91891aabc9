"""Mutation operators on statements: deleted, moved, exchanged."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from nemoflows.coding.mutation.sources import Function, Source

Change = tuple[int, int, str, float]
"""First and last byte, the new text, the cost."""
_AUGMENTED = {
    ast.Add: ["-=", "*=", "="], ast.Sub: ["+=", "//=", "="], ast.Mult: ["+=", "**=", "//="],
    ast.Div: ["//=", "*=", "-="], ast.FloorDiv: ["-=", "/=", "%="], ast.Mod: ["//=", "-=", "="],
    ast.Pow: ["*=", "+="], ast.BitAnd: ["|=", "^=", "="], ast.BitOr: ["&=", "^=", "="],
    ast.BitXor: ["&=", "|=", "="], ast.LShift: [">>=", "*="], ast.RShift: ["<<=", "//="],
}  # fmt: skip
"""What an augmented operator is mistaken for, the likeliest first; then every other one."""
_RESULTS = ("False", "True", "None", "0", "1", "-1", "[]", '""')
STEP = "    "
MAX_NAMES = 4
"""Variables that a result is made of."""


def mutations(source: Source, node: ast.AST) -> Iterator[Change]:
    """Return the changes that begin at one statement."""
    if not isinstance(node, ast.stmt) or not source.owns_its_lines(node):
        return
    siblings = _siblings(source, node)
    if not siblings:
        return
    yield from _assignments(source, node)
    yield from _jumps(source, node)
    yield from _deleted(source, node, siblings)
    yield from _moved(source, node, siblings)
    yield from _flipped(source, node)
    yield from _guarded(source, node)
    yield from _repeated(source, node)


def _siblings(source: Source, node: ast.stmt) -> list[ast.stmt]:
    parent = source.parents.get(node)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and node in block:
            return block
    return []


def _assignments(source: Source, node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.AugAssign):
        target, value = source.text(node.target), source.text(node.value)
        near, every = _AUGMENTED.get(type(node.op), []), sum(_AUGMENTED.values(), ["="])
        for rank, sign in enumerate(dict.fromkeys([*near, *every])):
            yield *source.span(node), f"{target} {sign} {value}", 1.3 + 0.2 * rank
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = source.text(node.targets[0]), source.text(node.value)
        for rank, sign in enumerate(("+=", "-=", "*=")):
            yield *source.span(node), f"{target} {sign} {value}", 2.3 + 0.3 * rank


def _jumps(source: Source, node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.Break):
        yield *source.span(node), "continue", 1.4
    elif isinstance(node, ast.Continue):
        yield *source.span(node), "break", 1.4
    elif isinstance(node, ast.Return):
        known = [text.removeprefix("return ") for text in source.texts_inside(node, ast.Return)]
        names = source.names_at(node)
        tests = [f"{name} == 0" for name in names[:MAX_NAMES]]
        for rank, text in enumerate(dict.fromkeys([*known, *names, *_RESULTS, *tests])):
            if node.value is None or text != source.text(node.value):
                yield *source.span(node), f"return {text}", 2.2 + 0.1 * rank
    elif isinstance(node, ast.If | ast.While) and source.text(node).startswith(("if", "while")):
        start, _ = source.span(node)
        old, new = ("if", "while") if isinstance(node, ast.If) else ("while", "if")
        if not node.orelse:
            yield start, start + len(old), new, 2.6


def _deleted(source: Source, node: ast.stmt, siblings: list[ast.stmt]) -> Iterator[Change]:
    if isinstance(node, Function | ast.ClassDef | ast.Import | ast.ImportFrom):
        return
    start, end = source.line_span(node)
    indent = _indent(source, node)
    yield start, end, "" if len(siblings) > 1 else f"{indent}pass\n", 2.1
    if isinstance(node, ast.If | ast.For | ast.While | ast.With):
        yield start, end, _dedented(source, node.body, indent), 2.5
    if isinstance(node, ast.If) and node.orelse:
        first, last = node.body[-1], node.orelse[-1]
        tail_start, tail_end = source.line_span(first)[1], source.line_span(last)[1]
        yield tail_start, tail_end, "", 2.5
        if not source.data[source.span(node.orelse[0])[0] :].startswith(b"elif"):
            yield start, end, _dedented(source, node.orelse, indent), 2.8


def _moved(source: Source, node: ast.stmt, siblings: list[ast.stmt]) -> Iterator[Change]:
    place = siblings.index(node)
    start, end = source.line_span(node)
    text, indent = source.whole_lines(node), _indent(source, node)
    if place + 1 < len(siblings) and source.owns_its_lines(siblings[place + 1]):
        following = siblings[place + 1]
        other_start, other_end = source.line_span(following)
        between = source.data[end:other_start].decode()
        yield start, other_end, source.whole_lines(following) + between + text, 2.4
    if len(indent) > len(STEP) and place == len(siblings) - 1 and place:  # out of its block
        yield start, end, _shifted(text, -1), 2.2
    before = siblings[place - 1] if place else None
    if isinstance(before, ast.If | ast.For | ast.While | ast.With):  # into the block before it
        yield start, end, _shifted(text, 1), 2.6


def _flipped(source: Source, node: ast.stmt) -> Iterator[Change]:
    """Answer yes for no and no for yes, throughout a function."""
    if not isinstance(node, Function):
        return
    start, end = source.span(node)
    text, n = re.subn(
        rb"(?<=\breturn )(True|False)\b",
        lambda found: b"False" if found[0] == b"True" else b"True",
        source.data[start:end],
    )
    if n > 1:
        yield start, end, text.decode(), 1.7


def _guarded(source: Source, node: ast.stmt) -> Iterator[Change]:
    """Do a statement of a loop only where a condition of its variables holds."""
    loops = source.loops_around(node)
    if not loops or not isinstance(node, ast.Expr | ast.AugAssign | ast.Assign | ast.Return):
        return
    start, end = source.line_span(node)
    indent, text = _indent(source, node), _shifted(source.whole_lines(node), 1)
    first, *others = loops
    tests = [first, f"not {first}", *(f"{o} {s} {first}" for o in others for s in ("==", "!="))]
    known = [each for each in source.texts_inside(node, ast.Compare) if "\n" not in each]
    for rank, test in enumerate(dict.fromkeys([*tests, *known])):
        yield start, end, f"{indent}if {test}:\n{text}", 2.9 + 0.1 * rank


def _repeated(source: Source, node: ast.stmt) -> Iterator[Change]:
    """Do once more after a loop what it does: for what is left, or for another variable."""
    if not isinstance(node, ast.For | ast.While):
        return
    at, indent = source.line_span(node)[1], _indent(source, node)
    for inner in ast.walk(node):
        if not (isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call)):
            continue
        text, given = source.text(inner), [source.text(each) for each in inner.value.args]
        if len(given) == 1 and "\n" not in text:
            function = source.text(inner.value.func)
            for rank, name in enumerate([given[0], *source.names_at(node)]):
                yield at, at, f"{indent}{function}({name})\n", 3.0 + 0.1 * rank


def _dedented(source: Source, body: list[ast.stmt], indent: str) -> str:
    whole = "".join(source.whole_lines(each) for each in body)
    extra = len(_indent(source, body[0])) - len(indent)
    return "".join(
        line[extra:] if line.strip() else line for line in whole.splitlines(keepends=True)
    )


def _indent(source: Source, node: ast.stmt) -> str:
    start, _ = source.line_span(node)
    return source.data[start : source.span(node)[0]].decode()


def _shifted(text: str, steps: int) -> str:
    lines = text.splitlines(keepends=True)
    if steps > 0:
        return "".join(STEP + line if line.strip() else line for line in lines)
    return "".join(line.removeprefix(STEP) for line in lines)
