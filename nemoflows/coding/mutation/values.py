"""Mutation operators on values that are there: constants, names, calls, displays, subscripts."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from nemoflows.coding.mutation.sources import Source

Replacement = tuple[str, float]
"""New text of the node, and its cost."""
Operator = Callable[[Source, ast.AST], Iterator[Replacement]]
_KIN = [
    {"max", "min", "sum", "len"}, {"any", "all"}, {"sorted", "reversed", "list"},
    {"upper", "lower", "swapcase", "title", "capitalize"}, {"startswith", "endswith"},
    {"append", "extend", "add"}, {"ceil", "floor"}, {"int", "round", "float", "str"},
    {"isupper", "islower"},
    {"isdigit", "isalpha", "isalnum", "isupper", "islower", "isspace", "isnumeric", "isdecimal"},
    {"find", "rfind", "index", "rindex"}, {"strip", "lstrip", "rstrip"}, {"split", "rsplit"},
    {"keys", "values", "items"}, {"set", "list", "tuple", "sorted"}, {"ord", "chr"},
    {"pop", "remove", "discard"}, {"union", "intersection", "difference"}, {"bin", "hex", "oct"},
    {"partition", "rpartition"}, {"get", "setdefault"}, {"sin", "cos"}, {"log", "log2", "log10"},
    {"zip", "zip_longest"}, {"isinstance", "issubclass"}, {"read", "readline", "readlines"},
]  # fmt: skip
MAX_LETTERS = 12
"""Characters of a text that are left out, one after another."""
_SEPARATORS = (" ", "-", "_", ",", ", ", "\n", ".", "/", ":")
MAX_BORROWED = 40
"""Characters of a value that is tried in place of another."""


def _constant(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.Constant) or _is_docstring(source, node):
        return
    value = node.value
    if isinstance(value, bool):
        tries, cost = [str(not value)], 1.0
    elif isinstance(value, int):
        near = [value + 1, value - 1, 0, 1, 2, -value, value * 10, value // 10]
        tries, cost = [_number(each) for each in near], 1.0
    elif isinstance(value, float):
        close = [value + 1, value - 1, value * 10, value / 10, -value, 0.0]
        tries, cost = [_number(each) for each in close], 1.6
    elif isinstance(value, str):
        words = ["", " ", value.swapcase(), value.strip(), value + " ", value[:-1], value[1:]]
        tries, cost = [repr(each) for each in dict.fromkeys([*words, *_other_texts(value)])], 2.0
    else:
        tries, cost = ["0", "False", "[]", '""'] if value is None else [], 2.2
    step = 0.3 if not isinstance(value, str) else 0.1
    for rank, text in enumerate(each for each in dict.fromkeys(tries) if each != repr(value)):
        yield text, cost + step * rank


def _other_texts(text: str) -> list[str]:
    """Return a text without each of its characters; and, for a separator, the other ones."""
    others = _SEPARATORS if len(text) < 3 and not text.isalnum() else ()
    fewer = [text.replace(letter, "") for letter in dict.fromkeys(text[:MAX_LETTERS])]
    return [*others, *fewer]


def _other_constants(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Exchange a constant for another of the function's, or for one of its variables."""
    if not isinstance(node, ast.Constant) or _is_docstring(source, node):
        return
    others = (e for e in source.inside(node, ast.Constant) if isinstance(e, ast.Constant))
    for text, value in {repr(each.value): each.value for each in others}.items():
        if type(value) is type(node.value) and value != node.value and "\n" not in text:
            yield text, 1.9
    if isinstance(node.value, int | str | None):
        for rank, name in enumerate(source.names_at(node)):
            yield name, 2.6 + 0.1 * rank


def _variable(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.Name):
        return
    names, updated = source.names_at(node), isinstance(source.parents.get(node), ast.AugAssign)
    if node.id in names and (updated or isinstance(node.ctx, ast.Load)):
        for rank, name in enumerate(each for each in names if each != node.id):
            yield name, 1.5 + 0.1 * rank


def _borrowed(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Exchange a value for another that the function works out elsewhere, or for a length."""
    if not isinstance(node, ast.Name | ast.Call | ast.Subscript | ast.Attribute):
        return
    parent = source.parents.get(node)
    if (
        is_stored(node)
        or getattr(parent, "func", None) is node
        or isinstance(parent, ast.Attribute)
    ):
        return
    own = source.text(node)
    known = source.texts_inside(node, ast.Subscript) + source.texts_inside(node, ast.Call)
    lengths = [f"len({name})" for name in source.names_at(node)[:3]]
    others = (e for e in dict.fromkeys([*known, *lengths]) if e != own and "\n" not in e)
    for rank, text in enumerate(others):
        if own not in text and len(text) <= MAX_BORROWED:
            yield text, 2.6 + 0.1 * rank


def _display(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Exchange neighbours of a list or tuple, or leave one out."""
    if not isinstance(node, ast.List | ast.Tuple) or is_stored(node):
        return
    parts = [source.text(each) for each in node.elts]
    left, right = ("[", "]") if isinstance(node, ast.List) else ("(", ")")
    for n in range(len(parts) - 1):
        swapped = [*parts[:n], parts[n + 1], parts[n], *parts[n + 2 :]]
        yield left + ", ".join(swapped) + right, 1.9
    for n in reversed(range(len(parts) if len(parts) > 1 else 0)):
        fewer = parts[:n] + parts[n + 1 :]
        comma = "," if right == ")" and len(fewer) == 1 else ""
        yield left + ", ".join(fewer) + comma + right, 2.0


def _kin(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Exchange a function or method for one that is easily mistaken for it."""
    called = isinstance(source.parents.get(node), ast.Call | ast.keyword)
    name = getattr(node, "id", "") or getattr(node, "attr", "")
    if not called or not name:
        return
    kin = [other for family in _KIN if name in family for other in sorted(family) if other != name]
    for rank, other in enumerate(dict.fromkeys(kin)):
        text = other if isinstance(node, ast.Name) else source.text(node)[: -len(name)] + other
        yield text, 1.4 + 0.2 * rank


def _call(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.Call):
        return
    function = source.text(node.func)
    arguments = [source.text(each) for each in node.args]
    named = [source.text(each) for each in node.keywords]
    if len(arguments) == 1 and not named:
        yield arguments[0], 2.0
    if isinstance(node.func, ast.Attribute):
        yield source.grouped(node.func.value), 2.1
    for n in range(len(arguments) - 1):
        swapped = [*arguments[:n], arguments[n + 1], arguments[n], *arguments[n + 2 :]]
        yield f"{function}({', '.join(swapped + named)})", 1.9
    for n in range(len(arguments) + len(named)):
        fewer = [each for k, each in enumerate(arguments + named) if k != n]
        if fewer:
            yield f"{function}({', '.join(fewer)})", 2.3
    if function == "sorted" and not any("reverse" in each for each in named):
        yield f"sorted({', '.join([*arguments, *named, 'reverse=True'])})", 2.0
    if function == "range":
        yield from _ranges(arguments)


def _ranges(arguments: list[str]) -> Iterator[Replacement]:
    if len(arguments) == 1:
        yield f"range(1, {arguments[0]})", 1.8
        yield f"range(1, {arguments[0]} + 1)", 1.8
        yield f"range({arguments[0]} + 1)", 1.5
        yield f"range({arguments[0]} - 1)", 1.6
    elif len(arguments) == 2:
        first, last = arguments
        for text in (f"{first}, {last} + 1", f"{first}, {last} - 1", f"{first} + 1, {last}", last):
            yield f"range({text})", 1.6
        yield f"range({first}, {last}, 2)", 2.6
    else:
        yield f"range({', '.join(arguments[:2])})", 2.0


def _shift(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Be off by one where a number is likely."""
    parent = source.parents.get(node)
    places = ast.Compare | ast.Slice | ast.Return | ast.BinOp | ast.AugAssign | ast.Call | ast.Tuple
    likely = isinstance(parent, places) or getattr(parent, "slice", None) is node
    plain = isinstance(node, ast.Name | ast.Call | ast.BinOp | ast.Subscript)
    called = getattr(parent, "func", None) is node
    if likely and plain and not called and not is_stored(node):
        text, rarer = source.grouped(node), 0.4 * isinstance(parent, ast.Call | ast.Tuple)
        yield f"({text} + 1)", 2.4 + rarer
        yield f"({text} - 1)", 2.4 + rarer
        yield f"(-{text})", 3.0 + rarer


def _subscript(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.Subscript) or is_stored(node):
        return
    value = source.text(node.value)
    yield value, 2.6
    if isinstance(node.slice, ast.Slice):
        lower, upper, step = (
            source.text(part) if part else ""
            for part in (node.slice.lower, node.slice.upper, node.slice.step)
        )
        tries = [f"{lower}:", f":{upper}", f"{upper}:{lower}", f"{lower}:{upper}:-1"]
        tries += [f"{lower}:{upper}"] if step else []
        tries += [f"{lower or 0}:({upper}) + 1", f"{lower or 0}:({upper}) - 1"] if upper else []
        tries += [f"({lower}) + 1:{upper}", f"({lower}) - 1:{upper}"] if lower else ["1:" + upper]
    else:
        tries = ["0", "-1", "1"]
    for rank, text in enumerate(tries):
        yield f"{value}[{text}]", 2.0 + 0.2 * rank


def _number(value: float) -> str:
    return repr(value) if value >= 0 else f"({value!r})"


def is_stored(node: ast.AST) -> bool:
    """Return whether a node is bound or deleted, and not read."""
    return isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)


def _is_docstring(source: Source, node: ast.AST) -> bool:
    return isinstance(source.parents.get(node), ast.Expr | ast.JoinedStr | ast.FormattedValue)


OPERATORS: list[Operator] = [
    _constant, _other_constants, _variable, _kin, _call, _borrowed, _display, _shift, _subscript,
]  # fmt: skip
