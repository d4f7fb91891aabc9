"""Each example does what its first lines say, in the way they say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import ROOT, run_command

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


def test_your_own_workflow_from_the_four_tasks(corpus: Path) -> None:
    done = run_command(
        "pyflyte", "run", "examples/four_tasks.py", "brief", "--question", "How long is the Elbe?",
        "--corpus", corpus,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1,094" in done.stdout


def test_asking_a_folder(corpus: Path) -> None:
    done = run_command("python", "examples/ask_folder.py", corpus, "How long is the Elbe?")
    assert done.returncode == 0, done.stdout
    quoted = json.loads(done.stdout.strip().splitlines()[-1])
    text = (corpus / quoted["document"]).read_text()
    assert text[quoted["start"] : quoted["end"]] == quoted["quote"]
    assert "1,094" in done.stdout


def test_asking_a_table() -> None:
    done = run_command("python", "examples/ask_table.py")
    assert done.returncode == 0, done.stdout
    assert "buildings.parquet#1" in done.stdout.strip().splitlines()[-1]
    assert "1908" in done.stdout


def test_gathering_the_installed_documents(tmp_path: Path) -> None:
    done = run_command("python", "examples/installed_docs.py", tmp_path / "docs")
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "docs").rglob("README.md"))) > 20
    assert list((tmp_path / "docs").rglob("tenacity/wait.py"))
