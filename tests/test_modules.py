"""The house's size and shape: how far one step walks, how long files and functions are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from statistics import quantiles

from tests.support import ROOT

HOUSE = ROOT / "nemoflows"
FILES = sorted(HOUSE.rglob("*.py"))


def test_one_extract_with_one_call_enters_few_modules() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.modules"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    new, replayed = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    assert new["modules"] <= 18, new["entered"]
    assert replayed["modules"] < new["modules"], "a replay asks no engine"


def test_the_top_has_few_names() -> None:
    names = {path.name for path in HOUSE.iterdir()} - {"__pycache__", "py.typed"}
    assert len({name for name in names if not name.startswith("__init__")}) <= 24


def test_no_file_is_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: n for name, n in lengths.items() if n > 350}


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert quantiles(lengths, n=10)[-1] <= 20


def test_packages_have_no_cycles() -> None:
    """Modules of one room may know each other, but not in a circle."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    graph = {name: _imports(path, set(names)) - {name} for name, path in names.items()}
    finished: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above[above.index(name) :], name])
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            finished.add(name)

    for name in sorted(graph):
        visit(name, ())


def _imports(path: Path, known: set[str]) -> set[str]:
    """Return the modules that a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known
