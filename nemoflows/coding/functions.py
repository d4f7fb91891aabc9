"""A function with its tests as a little repository: the shape of HumanEval and MBPP."""

from __future__ import annotations

import ast

from nemoflows.errors import BadInput
from nemoflows.sandbox.trees import Tree

SOLUTION, TESTS = "solution.py", "test_solution.py"
_UNWRITTEN = "    raise NotImplementedError\n"
_NAMES = """import solution
from solution import *  # noqa

globals().update({k: v for k, v in vars(solution).items() if k[-2:] != "__"})
"""
"""Names that begin with a line too, and a function that is called as the module is."""
_TESTING = ast.Assert | ast.Expr | ast.For | ast.With | ast.Try | ast.If


def tree(source: str, tests: str) -> Tree:
    """Return a tree with a source and its tests, one pytest test per assertion.

    Args:
        source: The function, or its head with a body that raises NotImplementedError.
        tests: Python that asserts, at its top level or in a function `check` that it calls with
            the function under test.

    Raises:
        BadInput: Either is no Python, or the tests assert nothing.
    """
    for name, text in (("source", source), ("tests", tests)):
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise BadInput(f"The {name} are no Python: {error}. No call was made.") from error
    return Tree({SOLUTION: source.encode(), TESTS: _as_pytest(tests).encode()})


def is_one(tree: Tree) -> bool:
    """Return whether a tree is such a repository."""
    return set(tree.files) == {SOLUTION, TESTS}


def head(prompt: str) -> str:
    """Return the source that a prompt gives: a whole function, the head of one, or none at all."""
    for source in (prompt, f"{prompt.rstrip()}\n{_UNWRITTEN}"):
        try:
            body = ast.parse(source).body
        except SyntaxError:
            continue
        if body and isinstance(body[-1], ast.FunctionDef) and len(body[-1].body) == 1:
            only = body[-1].body[0]
            if isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant):
                return f"{source.rstrip()}\n{_UNWRITTEN}"
        if any(isinstance(each, ast.FunctionDef | ast.ClassDef) for each in body):
            return source
    return ""


def _as_pytest(tests: str) -> str:
    """Return tests as functions, so that each tells for itself whether it passes."""
    setup: list[str] = []
    bodies: list[list[str]] = []
    for statement in _unrolled(ast.parse(tests)):
        if isinstance(statement, _TESTING):
            bodies.append([*setup, ast.unparse(statement)])
        else:
            setup.append(ast.unparse(statement))
    if not bodies:
        raise BadInput(
            "The tests assert nothing at their top level, nor in a function `check` that they "
            "call, as in `check(NAME)`. No call was made."
        )
    lines = _NAMES.split("\n")
    for n, body in enumerate(bodies):
        lines += ["", f"def test_{n}():"]
        lines += [f"    {line}" for statement in body for line in statement.split("\n")]
    return "\n".join(lines) + "\n"


def _unrolled(module: ast.Module) -> list[ast.stmt]:
    """Return the statements of a module, a `check(function)` replaced by its body."""
    checks = {
        s.name: s for s in module.body if isinstance(s, ast.FunctionDef) and s.name == "check"
    }
    found: list[ast.stmt] = []
    for statement in module.body:
        match statement:
            case ast.FunctionDef(name="check"):
                continue
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[ast.Name(id=given)])) if (
                checks
            ):
                check = checks["check"]
                name = check.args.args[0].arg
                alias = [] if name == given else [ast.parse(f"{name} = {given}").body[0]]
                found += [*alias, *check.body]
            case _:
                found.append(statement)
    return found
