"""Mutation operators on expressions: what a slip of the programmer's would have changed.

Each yields replacements of one node with a cost; what is cheap is tried first. The costs order
kinds of slips from the commonest to the rarest, by reading and not by fitting.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nemoflows.coding.mutation.additions import ADDITIONS
from nemoflows.coding.mutation.sources import Source
from nemoflows.coding.mutation.values import OPERATORS, Operator, Replacement

_COMPARISONS: dict[type[ast.cmpop], list[str]] = {
    ast.Lt: ["<=", ">", ">=", "==", "!="], ast.LtE: ["<", ">=", ">", "==", "!="],
    ast.Gt: [">=", "<", "<=", "==", "!="], ast.GtE: [">", "<=", "<", "==", "!="],
    ast.Eq: ["!=", ">=", "<=", ">", "<", "in"], ast.NotEq: ["==", ">", "<", ">=", "<="],
    ast.In: ["not in", "=="], ast.NotIn: ["in"], ast.Is: ["is not"], ast.IsNot: ["is"],
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], list[str]] = {
    ast.Add: ["-", "*"], ast.Sub: ["+", "%"], ast.Mult: ["**", "+", "//", "/"],
    ast.Div: ["//", "*", "%"], ast.FloorDiv: ["/", "%", "*"], ast.Mod: ["//", "/", "-"],
    ast.Pow: ["*"], ast.LShift: [">>"], ast.RShift: ["<<"], ast.BitAnd: ["|", "^"],
    ast.BitOr: ["&", "^"], ast.BitXor: ["|", "&"],
}  # fmt: skip
_SIGNS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not", ast.Add: "+",
    ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip


def mutations(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Return the replacements of one node, by every operator."""
    for operator in _OPERATORS:
        yield from operator(source, node)


def _compare(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.Compare):
        return
    terms = [source.text(each) for each in (node.left, *node.comparators)]
    for n, op in enumerate(node.ops):
        for rank, sign in enumerate(_COMPARISONS[type(op)]):
            signs = [_SIGNS[type(each)] for each in node.ops]
            signs[n] = sign
            yield _chain(terms, signs), 1.0 + 0.4 * rank
    if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
        yield _chain(terms[::-1], [_SIGNS[type(node.ops[0])]]), 1.6
    if len(node.ops) > 1:
        signs = [_SIGNS[type(each)] for each in node.ops]
        yield _chain(terms[1:], signs[1:]), 2.2
        yield _chain(terms[:-1], signs[:-1]), 2.2


def _chain(terms: list[str], signs: list[str]) -> str:
    return terms[0] + "".join(
        f" {sign} {term}" for sign, term in zip(signs, terms[1:], strict=True)
    )


def _logic(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if isinstance(node, ast.BoolOp):
        values = [source.grouped(each) for each in node.values]
        now, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield f"({f' {other} '.join(values)})", 1.0
        for n in range(len(values)):
            left = values[:n] + values[n + 1 :]
            yield f"({f' {now} '.join(left)})", 1.8
    elif isinstance(node, ast.UnaryOp):
        yield source.grouped(node.operand), 1.2


def _negate(source: Source, node: ast.AST) -> Iterator[Replacement]:
    tested = getattr(source.parents.get(node), "test", None) is node
    filters = getattr(source.parents.get(node), "ifs", [])
    if tested or node in filters:
        yield f"not ({source.text(node)})", 1.6


def _arithmetic(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.BinOp):
        return
    left, right = source.grouped(node.left), source.grouped(node.right)
    for rank, sign in enumerate(_ARITHMETIC.get(type(node.op), [])):
        yield f"({left} {sign} {right})", 1.2 + 0.5 * rank
    sign = _SIGNS.get(type(node.op), "+")
    yield f"({right} {sign} {left})", 1.8
    yield left, 2.0
    yield right, 2.2
    yield from _regrouped(source, node, sign)


def _regrouped(source: Source, node: ast.BinOp, sign: str) -> Iterator[Replacement]:
    """Set the brackets the other way."""
    if isinstance(node.left, ast.BinOp):
        inner = _SIGNS.get(type(node.left.op), "+")
        a, b = source.grouped(node.left.left), source.grouped(node.left.right)
        yield f"({a} {inner} ({b} {sign} {source.grouped(node.right)}))", 2.4
    if isinstance(node.right, ast.BinOp):
        inner = _SIGNS.get(type(node.right.op), "+")
        b, c = source.grouped(node.right.left), source.grouped(node.right.right)
        yield f"(({source.grouped(node.left)} {sign} {b}) {inner} {c})", 2.4


def _comprehension(source: Source, node: ast.AST) -> Iterator[Replacement]:
    if not isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.IfExp):
        return
    if isinstance(node, ast.IfExp):
        yield source.text(node.body), 2.0
        yield source.text(node.orelse), 2.0
        return
    whole, start = source.text(node), source.span(node)[0]
    for generator in node.generators:
        for condition in generator.ifs:
            at, end = (n - start for n in source.span(condition))
            data = whole.encode()
            before = data[:at].rstrip()
            if before.endswith(b"if"):
                yield (before[:-2].rstrip() + data[end:]).decode(), 2.0


def _conditions(source: Source, node: ast.AST) -> Iterator[Replacement]:
    """Add to a condition another one that the function knows, or a variable's being there."""
    if getattr(source.parents.get(node), "test", None) is not node:
        return
    text = source.grouped(node)
    known = dict.fromkeys(source.texts_inside(node, ast.Compare))
    for rank, other in enumerate(e for e in known if e != text and "\n" not in e):
        yield f"{text} and {other}", 3.0 + 0.1 * rank
        yield f"{text} or {other}", 3.0 + 0.1 * rank
    for rank, name in enumerate(source.names_at(node)):
        yield f"{text} and {name}", 3.4 + 0.1 * rank
        yield f"{text} or not {name}", 3.5 + 0.1 * rank


_OPERATORS: list[Operator] = [
    _compare, _logic, _negate, _arithmetic, _comprehension, _conditions, *OPERATORS, *ADDITIONS,
]  # fmt: skip
