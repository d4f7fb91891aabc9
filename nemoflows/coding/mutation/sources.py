"""A Python source with its syntax tree: where nodes stand, what a place can see."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
MAX_NAMES = 12
"""Names that are tried in place of another, the nearest first."""


class Source:
    """A parsed file; offsets are in bytes of its UTF-8, as Python's own are."""

    def __init__(self, path: str, text: str) -> None:
        """Parse a file.

        Raises:
            SyntaxError: It is no Python.
        """
        self.path, self.data = path, text.encode()
        self.tree = ast.parse(text)
        self._starts = [0]
        for line in self.data.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._names: dict[ast.AST, list[str]] = {}
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return where a node stands; decorators are not part of it."""
        start = self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        end = self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
        return start, end

    def text(self, node: ast.AST) -> str:
        """Return a node as it is written."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def grouped(self, node: ast.AST) -> str:
        """Return a node as it is written, in brackets where a neighbour could bind tighter."""
        text = self.text(node)
        loose = isinstance(
            node, ast.BinOp | ast.BoolOp | ast.Compare | ast.UnaryOp | ast.IfExp | ast.Lambda
        )
        return f"({text})" if loose else text

    def line_span(self, node: ast.stmt) -> tuple[int, int]:
        """Return a statement's whole lines."""
        last = node.end_lineno or node.lineno
        return self._starts[node.lineno - 1], self._starts[last]

    def whole_lines(self, node: ast.stmt) -> str:
        """Return a statement's whole lines as they are written."""
        start, end = self.line_span(node)
        return self.data[start:end].decode()

    def owns_its_lines(self, node: ast.stmt) -> bool:
        """Return whether nothing else stands on a statement's lines."""
        before = self.data[self._starts[node.lineno - 1] : self.span(node)[0]]
        return not before.strip()

    def function_of(self, node: ast.AST) -> ast.AST:
        """Return the innermost function around a node, else the module."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, Function):
                return node
        return self.tree

    def names_at(self, node: ast.AST) -> list[str]:
        """Return the variables that a function binds, arguments first; no attributes."""
        scope = self.function_of(node)
        if scope not in self._names:
            self._names[scope] = list(dict.fromkeys(_bound(scope)))[:MAX_NAMES]
        return self._names[scope]

    def loops_around(self, node: ast.AST) -> list[str]:
        """Return the variables of the loops around a node, the innermost first."""
        found, scope = [], self.function_of(node)
        while node in self.parents and node is not scope:
            node = self.parents[node]
            loops = getattr(node, "generators", [node] if isinstance(node, ast.For) else [])
            for loop in reversed(loops):
                found += [n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)]
        return found

    def inside(self, node: ast.AST, kind: type[ast.AST]) -> list[ast.AST]:
        """Return the nodes of a kind in the function around a node."""
        return [each for each in ast.walk(self.function_of(node)) if isinstance(each, kind)]

    def texts_inside(self, node: ast.AST, kind: type[ast.AST]) -> list[str]:
        """Return what those nodes are as they are written."""
        return [self.text(each) for each in self.inside(node, kind)]


def _bound(scope: ast.AST) -> Iterator[str]:
    if isinstance(scope, Function):
        given = scope.args
        yield from (a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs])
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
