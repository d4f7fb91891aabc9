"""Imports fall downward through the layers, and nothing heavy is imported at the top."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nemoflows as installed
from tests.support import ROOT

ROWS: list[set[str]] = [
    {"errors"},
    {"types", "progress"},
    {"models", "storage", "language"},
    {"settings"},
    {"calls"},
    {"money", "gpus", "schemas"},
    {"engines", "journal", "search", "sandbox"},
    {"llm"},
    {"rag", "coding", "typed"},
    {"reporting", "audit"},
    {"tasks"},
    {"cli", "workflows"},
]
"""Folders and files of `nemoflows/`, the lowest row first; rooms of one row know nothing of each
other, so that none of them can import itself through another."""
RANK = {room: rank for rank, rooms in enumerate(ROWS) for room in rooms}
HOMES: dict[str, str] = vars(installed)["_HOME"]
"""Public names, and the modules that they are of."""
FILES = sorted((ROOT / "nemoflows").rglob("*.py"))
LAZY = {
    "vllm", "torch", "anthropic", "openai", "lancedb", "pandas", "pyarrow", "bm25s", "pypdfium2",
    "selectolax", "sentence_transformers", "genai_prices", "tenacity", "rich", "fsspec", "jinja2",
}  # fmt: skip


def imports(tree: ast.Module) -> list[str]:
    """Return every module that is imported, at the top or inside a function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "nemoflows":
            found += [f"nemoflows.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "nemoflows").with_suffix("").parts[0]


def upward(path: Path, source: str) -> list[str]:
    """Return the imports of a module that do not fall to a lower row."""
    own = room(path)
    named = [name.split(".")[1] for name in imports(ast.parse(source)) if name[:10] == "nemoflows."]
    rooms = [HOMES[one].split(".")[1] if one in HOMES else one for one in named]
    return [found for found in rooms if found != own and RANK[found] >= RANK[own]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_fall_downward(path: Path) -> None:
    if room(path) != "__init__":
        assert upward(path, path.read_text()) == []


def test_an_upward_import_is_found() -> None:
    costs = ROOT / "nemoflows" / "money" / "ledger.py"
    assert upward(costs, "def f():\n    from nemoflows.llm.client import LLMClient\n") == ["llm"]
    assert upward(costs, "from nemoflows import rag, types\n") == ["rag"]
    assert upward(costs, "from nemoflows.gpus import plan\n") == ["gpus"], "of its own row"
    assert upward(costs, "from nemoflows import Answer, ModelRef\n") == ["rag"], "a public name"


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}

    def imported(name: str, path: Path) -> set[str]:
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                parts = name.split(".")[: -node.level] if node.level else []
                base = ".".join([*parts, *([node.module] if node.module else [])])
                found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        return (found & modules.keys()) - {name}

    order = TopologicalSorter({name: imported(name, path) for name, path in modules.items()})
    assert len(list(order.static_order())) == len(FILES)


def test_every_room_has_its_row() -> None:
    own = {"__init__.py", "__init__.pyi", "py.typed", "__pycache__"}
    found = {path.name for path in (ROOT / "nemoflows").iterdir()} - own
    assert {name.removesuffix(".py") for name in found} == set(RANK)


def test_flytekit_appears_only_at_the_rim() -> None:
    for path in FILES:
        used = any(
            name.split(".")[0] == "flytekit" for name in imports(ast.parse(path.read_text()))
        )
        assert not used or room(path) in {"workflows", "tasks", "cli"}, path


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
        top.body = [n for n in top.body if isinstance(n, ast.Import | ast.ImportFrom)]
        heavy = {name.split(".")[0] for name in imports(top)} & LAZY
        assert not heavy, f"{path} imports {heavy} at the top"


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, nemoflows; bad = {'flytekit','anthropic','openai','lancedb','torch','vllm',"
        "'pandas','pydantic'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_tasks_bring_no_engine_along() -> None:
    code = (
        "import sys; from nemoflows import research, build_index, report; "
        "bad = {'anthropic','openai','lancedb','torch','vllm','sentence_transformers','bm25s'} "
        "& set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
