"""Mutation operators that add what was forgotten: a call, a slice, a term, a key, a filter."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nemoflows.coding.mutation.sources import Source
from nemoflows.coding.mutation.values import Operator, Replacement, is_stored

_WRAPPERS = (
    *("abs", "len", "sorted", "set", "list", "str"),
    *("int", "reversed", "sum", "max", "min", "round"),
)
_METHODS = ("lower", "upper", "strip", "copy")
_ALIKE = ("set({})", "sorted({})", "len({})", "{}.lower()", "abs({})", "str({})")
"""What both sides of a comparison may have to be made before they can be compared."""
_KEYS = ("len", "abs", "str.lower", "lambda each: each[0]", "lambda each: each[1]")
_VALUES = (
    ast.Name, ast.Call, ast.BinOp, ast.Subscript, ast.Attribute, ast.ListComp, ast.GeneratorExp,
)  # fmt: skip
_PLACES = (
    ast.Return, ast.Compare, ast.Assign, ast.BinOp, ast.Call, ast.For, ast.comprehension,
    ast.BoolOp, ast.IfExp, ast.Starred,
)  # fmt: skip
MAX_NUMBER = 1_000_000_000
MAX_NAMES = 4
"""Names of a function, the nearest first, that are tried as a part of something new."""


def _wrapped(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Add the call that was forgotten."""
    if not _is_value(source, node):
        return
    parent, text = source.parents.get(node), source.text(node)
    text = text.strip("()") if isinstance(node, ast.GeneratorExp) else text
    likely = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
    for rank, name in enumerate(_WRAPPERS):
        yield f"{name}({text})", 2.5 + 0.15 * rank - 0.6 * (likely and name == "abs")
    for rank, name in enumerate(_METHODS):
        yield f"{source.grouped(node)}.{name}()", 3.2 + 0.2 * rank
    if not isinstance(parent, ast.Call | ast.Compare):
        yield f"{source.grouped(node)}[::-1]", 3.0


def _bounded(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Keep the larger or the smaller: of what a variable was and becomes, or of this and 0."""
    parent = source.parents.get(node)
    if isinstance(parent, ast.Assign) and parent.value is node and len(parent.targets) == 1:
        target = source.text(parent.targets[0])
        for name in ("max", "min"):
            yield f"{name}({target}, {source.text(node)})", 2.6
    if isinstance(node, ast.BinOp) and isinstance(parent, ast.Assign | ast.Return):
        yield f"max(0, {source.text(node)})", 3.0
    called = getattr(getattr(node, "func", None), "id", "")
    if isinstance(node, ast.Call) and called in {"max", "min"} and len(node.args) == 1:
        names = source.names_at(node)
        for one in [target_of(source, node), *names][:MAX_NAMES]:
            for other in names[:MAX_NAMES]:
                if one and one != other:
                    yield f"{called}({one}, {other})", 3.0


def target_of(source: Source, node: ast.AST) -> str:
    """Return the variable that a value is assigned to; empty where it is not assigned."""
    parent = source.parents.get(node)
    return source.text(parent.targets[0]) if isinstance(parent, ast.Assign) else ""


def _alike(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Make both sides of a comparison alike."""
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return
    left, right = source.grouped(node.left), source.grouped(node.comparators[0])
    start, end = source.span(node.left)[1], source.span(node.comparators[0])[0]
    sign = source.data[start:end].decode()
    if "(" in sign or ")" in sign or "\n" in sign:
        return
    apart = isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Sub)
    for rank, form in enumerate(sorted(_ALIKE, key=lambda form: "abs" not in form or not apart)):
        yield form.format(left) + sign + form.format(right), 2.5 + 0.15 * rank


def _sliced(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Leave out the first or the last, or begin or end where a variable says."""
    if not _is_value(source, node) or isinstance(node, ast.BinOp | ast.GeneratorExp):
        return
    text = source.text(node)
    yield f"{text}[1:]", 2.7
    yield f"{text}[:-1]", 2.8
    for rank, name in enumerate(_near(source, node)):
        if name != text:
            yield f"{text}[{name}:]", 3.0 + 0.1 * rank
            yield f"{text}[:{name}]", 3.1 + 0.1 * rank


def _with_term(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Add the term or the factor that was forgotten: a number of the function's, or a variable."""
    if not _is_value(source, node) or isinstance(node, ast.Attribute | ast.GeneratorExp):
        return
    text, rarer = source.grouped(node), 0.3 * isinstance(source.parents.get(node), ast.BinOp)
    if not isinstance(node, ast.ListComp):
        for rank, number in enumerate(_numbers(source, node)):
            for turn, sign in enumerate(("/", "*", "**", "%")):
                yield f"({text} {sign} {number})", 2.9 + 0.1 * (rank + turn) + rarer
    for rank, name in enumerate(n for n in _near(source, node) if n != text):
        yield f"({text} - {name})", 3.1 + 0.1 * rank + rarer
        yield f"({text} + {name})", 3.2 + 0.1 * rank + rarer
        if isinstance(node, ast.ListComp):
            yield f"({name} + {text})", 3.1 + 0.1 * rank


def _numbers(source: Source, node: ast.AST) -> list[str]:
    """Return 2, and the whole numbers above it that the function names."""
    constants = [getattr(each, "value", None) for each in source.inside(node, ast.Constant)]
    plain = [int(c) for c in constants if isinstance(c, int | float) and 2 <= c < MAX_NUMBER]
    return [str(number) for number in dict.fromkeys([2, *plain])]


def _keyed(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Order by something else: by a length, a part, or what a table says."""
    called = getattr(getattr(node, "func", None), "id", "")
    if not isinstance(node, ast.Call) or called not in {"sorted", "max", "min"}:
        return
    if any(each.arg == "key" for each in node.keywords):
        return
    arguments = ", ".join(source.text(each) for each in [*node.args, *node.keywords])
    tables = [f"lambda each: {name}[each]" for name in _near(source, node)]
    gets = [f"{name}.get" for name in _near(source, node)]
    for rank, key in enumerate([*_KEYS, *tables, *gets]):
        yield f"{called}({arguments}, key={key})", 2.6 + 0.1 * rank


def _filtered(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Leave out what is empty, or what a condition of the function's says."""
    if not isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return
    last = node.generators[-1]
    if last.ifs or not isinstance(last.target, ast.Name):
        return
    start, end = source.span(node)[0], source.span(last.iter)[1]
    head, tail = source.data[start:end], source.data[end : source.span(node)[1]]
    name = last.target.id
    for rank, test in enumerate((name, f"not {name}", f"{name} > 0", f"{name} is not None")):
        yield f"{head.decode()} if {test}{tail.decode()}", 2.8 + 0.1 * rank


def _indexed(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Take an element of a sequence at a loop's variable instead of another variable."""
    if not isinstance(node, ast.Name) or is_stored(node):
        return
    parent = source.parents.get(node)
    if not isinstance(parent, ast.Compare | ast.BinOp | ast.Call | ast.Return | ast.Assign):
        return
    if getattr(parent, "func", None) is node:
        return
    indexed = source.inside(node, ast.Subscript)
    sequences = dict.fromkeys(source.text(getattr(each, "value")) for each in indexed)  # noqa: B009
    loops = source.loops_around(node)
    for rank, sequence in enumerate(list(sequences)[:MAX_NAMES]):
        for name in loops:
            if sequence != node.id:
                yield f"{sequence}[{name}]", 2.6 + 0.1 * rank


def _near(source: Source, node: ast.AST) -> list[str]:
    """Return the variables nearest to a node: those of the loops around it first."""
    return list(dict.fromkeys([*source.loops_around(node), *source.names_at(node)]))[:MAX_NAMES]


def _is_value(source: Source, node: ast.AST) -> bool:
    """Return whether a node is a value that something could be made of."""
    parent = source.parents.get(node)
    return (
        isinstance(node, _VALUES)
        and isinstance(parent, _PLACES)
        and getattr(parent, "func", None) is not node
        and not is_stored(node)
    )


ADDITIONS: list[Operator] = [
    _wrapped, _bounded, _alike, _sliced, _with_term, _keyed, _filtered, _indexed,
]  # fmt: skip
