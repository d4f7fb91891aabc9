"""Repositories as people have them: encodings, folders of a checkout, interpreters, odd names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nemoflows.coding import commands, edits, functions
from nemoflows.coding.types import Edit, Effort
from nemoflows.coding.verdict import passes
from nemoflows.errors import BadInput
from nemoflows.sandbox.trees import Tree
from tests.coding import committed, verdict_over
from tests.support import run_command

TEST = (
    "import m\ndef test_f():\n    assert m.f(1) == 2\ndef test_name():\n    assert m.NAME == {!r}\n"
)
ENCODED = {
    "a mark of order": ("", "utf-8-sig", "\n"),
    "a mark of order and CRLF": ("", "utf-8-sig", "\r\n"),
    "Latin-1": ("# -*- coding: latin-1 -*-\n", "latin-1", "\n"),
    "cp1252 in line 2": ("#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n", "cp1252", "\r\n"),
    "Shift JIS": ("# coding: shift_jis\n", "shift_jis", "\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_a_source_is_read_as_python_reads_it_and_stays_so(name: str, tmp_path: Path) -> None:
    from workflows.coding import fix_issue

    head, encoding, newline = ENCODED[name]
    word = "日本" if "JIS" in name else "Größe"
    source = f"{head}def f(x):\n    return x - 1\n\n\nNAME = {word!r}\n".replace("\n", newline)
    repo = committed(tmp_path / "repo", {"test_m.py": TEST.format(word)})
    (repo / "m.py").write_bytes(before := source.encode(encoding))
    patch = fix_issue(repo=str(repo), issue="f takes away").patch
    assert patch.status == "verified", patch
    subprocess.run(["git", "apply", "-"], input=patch.diff.encode(), cwd=repo, check=True)
    right = source.replace("x - 1", "x + 1").encode(encoding)
    assert (repo / "m.py").read_bytes() == right
    subprocess.run(["git", "apply", "-R", "-"], input=patch.diff.encode(), cwd=repo, check=True)
    assert (repo / "m.py").read_bytes() == before
    assert "return x + 1" in patch.diff, "readable, whatever its encoding"


def test_an_edit_that_the_file_s_encoding_lacks_is_refused_with_the_reason() -> None:
    tree = Tree({"m.py": "# coding: latin-1\nx = 'é'\n".encode("latin-1")})
    refused = edits.apply(tree, [Edit(path="m.py", search="x = 'é'", replace="x = '€'")])
    assert isinstance(refused, list)
    assert "lacks '€'" in str(refused[0])
    other = edits.apply(
        tree,
        [
            Edit(
                path="m.py", search="# coding: latin-1\nx = 'é'", replace="# coding: utf-8\nx = '€'"
            )
        ],
    )
    assert isinstance(other, Tree)
    assert other.files["m.py"] == "# coding: utf-8\nx = '€'\n".encode()


@pytest.mark.parametrize(
    "data",
    [b"# coding: nonsense\n", b"# coding: rot13\n", b"x = '\xff'\n", b"# coding: idna\n\xe9"],
)
def test_what_python_cannot_read_is_no_text(data: bytes) -> None:
    assert Tree({"m.py": data}).text("m.py") is None


def test_a_path_in_the_command_is_read_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("repo", "here"):
        (tmp_path / place / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / place / ".venv" / "bin" / "python").symlink_to(sys.executable)
        (tmp_path / place / ".venv" / "bin" / "pytest").touch()
    monkeypatch.chdir(tmp_path / "here")
    repo = str(tmp_path / "repo")
    for words in (".venv/bin/python -m pytest -k x", "./.venv/bin/pytest -k x"):
        found = commands.read_command(commands.located(words, repo))
        assert found == (f"{repo}/.venv/bin/python", ["-k", "x"])
    for words in ("pytest -k x", "python -m pytest", f"{repo}/.venv/bin/python -m pytest"):
        assert commands.located(words, repo) == words
    with pytest.raises(BadInput, match="read from the folder of the repository"):
        commands.located("venv/bin/python -m pytest", repo)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("python -m unittest discover -s tests", "pytest runs unittest's tests as they are"),
        ("python manage.py test", "pytest-django"),
        ("django-admin test", "pytest-django"),
        ("tox -e py311", ".tox/ENVIRONMENT/bin/python"),
        ("uv run pytest", ".venv/bin/python -m pytest"),
    ],
)
def test_a_refused_command_names_what_works(command: str, word: str) -> None:
    with pytest.raises(BadInput, match="does not run pytest") as refused:
        commands.read_command(command)
    assert word in refused.value.message


@pytest.mark.parametrize("name", ["solution", "_hidden", "__very", "plain"])
def test_a_function_may_have_any_name(name: str) -> None:
    checks = f"def check(f):\n    assert f(2) == 4\ncheck({name})"
    for tests in (checks, f"assert {name}(2) == 4"):
        tree = functions.tree(f"def {name}(x):\n    return x + 1\n", tests)
        texts = {path: data.decode() for path, data in tree.files.items()}
        right = f"def {name}(x):\n    return x + 2\n"
        baseline, report = verdict_over(texts, {functions.SOLUTION: right})
        assert passes(report, baseline), report


def test_a_failure_can_end_with_a_failing_status(tmp_path: Path) -> None:
    test = (
        "from m import f\ndef test_f(): assert f() == 'quite another'\ndef test_g(): assert f()\n"
    )
    repo = committed(tmp_path / "repo", {"m.py": "def f():\n    return ''\n", "test_m.py": test})
    words = ["pyflyte", "run", "workflows/coding.py", "fix_issue", "--repo", str(repo)]
    words += ["--issue", "g"]
    done = run_command(*words, "--effort", '{"search_runs": 3}')
    assert (done.returncode, "Fixed(" in done.stdout) == (0, False), done.stdout
    assert """--target_tests '["test_m.py::test_g"]'""" in done.stdout, "the issue's own"
    strict = run_command(*words, "--effort", '{"search_runs": 0, "unverified": "fail"}')
    assert strict.returncode != 0
    assert "nothing to try: --effort allowed it no test run" in strict.stdout


def test_a_search_that_had_nothing_to_try_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.coding import fix_issue

    test = "def test_f():\n    assert 'x' in open('notes.txt').read()\n"
    repo = committed(tmp_path / "repo", {"notes.txt": "notes on x\n\ny", "test_m.py": test})
    (repo / "notes.txt").write_text("notes")
    fixed = fix_issue(repo=str(repo), issue="The notes lack it", effort=Effort(search_runs=5))
    assert fixed.patch.status == "no candidate passed"
    told = capsys.readouterr().out
    assert "nothing to try: " in told
    assert "search of 0" not in told
