"""The README is true: its code runs, its names exist, its map is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import nemoflows
from nemoflows.settings import Settings
from tests.support import ROOT, run_command

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language; every second fence closes one."""
    pieces = re.split(r"^```(\w*)$", README, flags=re.MULTILINE)
    opened = zip(pieces[1::4], pieces[2::4], strict=True)
    return [code.lstrip("\n") for found, code in opened if found == language]


def test_it_is_short_enough_to_read() -> None:
    assert len(README.splitlines()) <= 330


def test_its_workflow_runs(corpus: Path, tmp_path: Path) -> None:
    [code] = blocks("python")
    (tmp_path / "mine.py").write_text(code)
    done = run_command(
        "pyflyte", "run", tmp_path / "mine.py", "ask", "--question", "How long is the Elbe?",
        "--corpus", corpus, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1,094" in done.stdout


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for line in re.findall(r"make ([a-z -]+)", README)
        for word in line.split()
        if word in {"demo", "test", "lint", "types", "package", "register", "test-dense"}
    }
    assert named >= {"demo", "test", "lint", "types", "package", "register", "test-dense"}
    assert named <= targets


def test_its_endpoints_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    [declared] = re.findall(r"NEMOFLOWS_ENDPOINTS='(.+)'", README)
    assert json.loads(declared)
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", declared)
    assert Settings().endpoints["local"].dialect == "vllm-server"


def test_every_setting_is_in_the_table() -> None:
    named = set(re.findall(r"NEMOFLOWS_([A-Z_]+)", README))
    assert {name.upper() for name in Settings.model_fields} == named


def test_every_task_is_in_the_table() -> None:
    cells = re.findall(r"^\| ((?:`[a-z_]+` )+)\|", README, re.MULTILINE)
    rows = {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}
    tasks = {name for name in nemoflows.__all__ if name.islower()}
    assert rows == tasks


def test_every_module_is_on_the_map() -> None:
    listed = blocks("")[-1]
    for path in (ROOT / "nemoflows").iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        if not name.startswith("_") and path.suffix in {".py", ""}:
            assert name in listed, name


def test_every_example_it_names_exists() -> None:
    for name in re.findall(r"`((?:examples|workflows|benchmarks)/\w+\.py)`", README):
        assert (ROOT / name).exists(), name
