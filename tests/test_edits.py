from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.coding import edits
from nemoflows.coding.candidates import candidate, changed
from nemoflows.coding.edits import Rejection
from nemoflows.coding.protected import Protection, files_of
from nemoflows.coding.types import Baseline, Candidate, Edit, TestReport
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.archives import unpack
from nemoflows.sandbox.trees import Tree
from tests.coding import task_of

SOURCE = "def f(x):\n    if x:\n        return 1\n    return 2\n\n\ndef g(x):\n    return 2\n"


def tree(**more: str) -> Tree:
    return Tree({"m.py": SOURCE.encode()} | {path: text.encode() for path, text in more.items()})


def applied(*wanted: Edit, of: Tree | None = None) -> Tree:
    result = edits.apply(of or tree(), wanted)
    assert isinstance(result, Tree), result
    return result


def kinds(*wanted: Edit, of: Tree | None = None) -> list[str]:
    result = edits.apply(of or tree(), wanted)
    assert isinstance(result, list)
    assert all(isinstance(each, Rejection) and str(each) for each in result)
    return [each.kind for each in result]


def edit(search: str, replace: str, path: str = "m.py") -> Edit:
    return Edit(path=path, search=search, replace=replace)


def test_an_exact_match_is_replaced() -> None:
    assert "return 3" in (applied(edit("        return 1", "        return 3")).text("m.py") or "")


def test_white_space_may_differ_and_the_indentation_is_the_files() -> None:
    loose = edit("if x:\n  return 1", "if x:\n  y = 1\n  return y")
    text = applied(loose).text("m.py") or ""
    compile(text, "m.py", "exec")
    assert "    if x:\n" in text


def test_words_may_not_differ() -> None:
    assert kinds(edit("        return  one", "")) == ["missing"]


def test_what_stands_twice_is_ambiguous() -> None:
    assert kinds(edit("    return 2", "    return 3")) == ["ambiguous"]


def test_edits_see_the_ones_before_them() -> None:
    first, second = edit("        return 1", "        return 7"), edit("return 7", "return 8")
    assert "return 8" in (applied(first, second).text("m.py") or "")


def test_a_new_file_is_written_and_an_existing_one_is_not_overwritten() -> None:
    assert applied(edit("", "x = 1\n", "new.py")).text("new.py") == "x = 1\n"
    assert kinds(edit("", "x = 1\n")) == ["exists"]
    assert kinds(edit("x", "y", "nowhere.py")) == ["no file"]


@pytest.mark.parametrize(
    "path", ["../m.py", "/etc/passwd", "a/../m.py", "./m.py", ".git/config", "a/.GIT/x", "", "a//b"]
)
def test_paths_outside_the_repository_are_refused(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["outside"]


@pytest.mark.parametrize(
    "path",
    ["tests/test_m.py", "test_m.py", "m_test.py", "conftest.py", "pytest.ini", "pyproject.toml",
     "setup.cfg", "tox.ini", "sub/conftest.py", "sitecustomize.py", "evil.pth"],
)  # fmt: skip
def test_tests_and_their_settings_are_refused(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["protected"]


def test_a_file_that_tests_were_collected_from_is_refused() -> None:
    tests = files_of(["m.py::test_x[a.b]", "n.py::n.f", "n.py::n", "README.md::README.md"])
    assert tests == {"m.py", "README.md"}
    refused = edits.apply(
        tree(), [edit("        return 1", "        return 3")], Protection(tests=tests)
    )
    assert isinstance(refused, list)
    assert refused[0].kind == "protected"


@pytest.mark.parametrize(
    "path",
    ["pytest.py", "_pytest/x.py", "json.py", "unittest/__init__.py", "src/decimal.py", "JSON.py",
     "pytest_cov/__init__.py", "src/xdist.py", "pygments/__init__.py", "json.abi3.py"],
)  # fmt: skip
def test_a_new_file_may_not_hide_a_module_of_python(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["protected"]


def test_a_new_file_beside_tests_may_not_hide_one_either() -> None:
    beside = Protection(tests=frozenset({"checks/m_checks.py"}))
    for path, found in {"checks/json.py": "protected", "other/json.py": ""}.items():
        result = edits.apply(tree(**{"checks/m_checks.py": "x"}), [edit("", "x", path)], beside)
        assert (result[0].kind if isinstance(result, list) else "") == found
    own = tree(**{"src/attr/__init__.py": "x"})
    assert isinstance(edits.apply(own, [edit("", "x", "src/attr/more.py")]), Tree)


@pytest.mark.parametrize("path", ["M.PY", "Deep/b.py", "deep/A.py", "\uff44eep/b.py"])
def test_another_spelling_of_a_known_name_is_refused(path: str) -> None:
    assert kinds(edit("", "x", path), of=tree(**{"deep/a.py": "x"})) == ["exists"]


@pytest.mark.parametrize("path", ["a.py:x", "CONFTE~1.PY", "conftest.py.", "d /x", "a\\b"])
def test_spellings_of_other_systems_are_refused(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["outside"]


def test_settings_that_the_command_names_are_refused() -> None:
    told = TestReport(key="", tree="", ending="finished", collected=["t/x.py::test_a"])
    for command in ("pytest -c ci/own.ini", "pytest --config-file=./ci/own.ini t"):
        task = task_of(tree(), test_command=command)
        protection = Protection.of(Baseline(task=task, report=told, target=[]))
        assert protection.covers("ci/own.ini")
        assert not protection.covers("ci/other.ini")
        assert protection.covers("t/x.py")


@pytest.mark.parametrize(
    ("text", "search", "kind"),
    [
        ("a" * (1 << 20), "a" * (1 << 19), "ambiguous"),
        ("a" * (1 << 20), "a" * (1 << 19) + "b", "missing"),
        ("\n" * (1 << 20), "x" + "\n" * (1 << 19), "missing"),
        ("  x\n" * (1 << 17), "x\n" * (1 << 16) + "y", "missing"),
        ("  x\n" * (1 << 17), "x \n" * (1 << 16), "ambiguous"),
        ("x", "x" * (1 << 20) + "x", "too long"),
    ],
)
def test_matching_takes_time_in_proportion(text: str, search: str, kind: str) -> None:
    assert kinds(edit(search, "y", "big.txt"), of=tree(**{"big.txt": text})) == [kind]


def test_binary_files_are_refused() -> None:
    assert kinds(edit("a", "b", "b.bin"), of=Tree({"b.bin": b"\xff\xfe\x00"})) == ["no text"]


def test_windows_line_ends_stay() -> None:
    windows = Tree({"m.py": SOURCE.replace("\n", "\r\n").encode()})
    windows_again = applied(
        edit("    if x:\n        return 1", "    if x:\n        return 9"), of=windows
    )
    data = windows_again.files["m.py"]
    assert b"return 9\r\n" in data
    assert data.count(b"\n") == data.count(b"\r\n")


@pytest.mark.parametrize(
    "path",
    ["a\0b.txt", "a\nb.txt", "\x1b[31m.txt", "x" * 300, "/".join(["d" * 200] * 9)],
)  # fmt: skip
def test_paths_that_no_file_can_have_are_refused(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["outside"]


@pytest.mark.parametrize("path", ["m.py/x.py", "deep"])
def test_a_file_is_no_folder(path: str) -> None:
    assert kinds(edit("", "x", path), of=tree(**{"deep/a.py": "x"})) == ["exists"]
    assert kinds(edit("", "x", "new"), edit("", "x", "new/a.py")) == ["exists"]


@pytest.mark.parametrize(
    "path",
    [".github/workflows/x.yml", ".gitattributes", "a/.gitmodules", "CONFTEST.PY", "a/Conftest.Py",
     "Tests/new.py", "X.PTH", "TEST_m.py", "PyProject.toml", ".envrc", "a/.VSCode/settings.json",
     ".idea/x.xml", ".hg/hgrc", ".pre-commit-config.yaml", "x.dist-info/entry_points.txt",
     "src/y.EGG-INFO/PKG-INFO", "z.egg-link", "conftest/__init__.py", "a/conftest.pyc", "setup.py",
     "m/__pycache__/m.cpython-311.pyc", "UserCustomize/__init__.py", "hooks/pre-commit",
     "t.code-workspace", "\uff43onftest.py", "\uff0eenvrc", "te\ufb06s/x.py"],
)  # fmt: skip
def test_what_tools_go_by_is_refused_however_it_is_spelled(path: str) -> None:
    assert kinds(edit("", "x", path)) == ["protected"]


MIXED = st.lists(st.sampled_from(["a", "b", "", "a\r", "b\r", "\r", "a\rb"]), max_size=7)


@given(MIXED, MIXED)
def test_mixed_line_ends_survive_as_a_candidate(old: list[str], new: list[str]) -> None:
    before, after = (Tree({"m.txt": "\n".join(each).encode()}) for each in (old, new))
    assert changed(before, candidate(before, after, tier="efficient")).hash == after.hash


LINES = st.lists(st.sampled_from(["a", "b", "  a", "", "c = 1", "\tx", "é"]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_the_difference_of_two_trees_leads_from_one_to_the_other(
    old: list[str], new: list[str], ends: bool, other_ends: bool
) -> None:
    before = Tree({"m.py": ("\n".join(old) + "\n" * ends).encode()})
    after = Tree({"m.py": ("\n".join(new) + "\n" * other_ends).encode()})
    made = Candidate.model_validate_json(
        candidate(before, after, tier="efficient").model_dump_json()
    )
    assert changed(before, made).hash == after.hash


NAMES = ["m.py", "with space.py", "é.py", "deep/er.py", 'quote".py']
TEXTS = [
    b"",
    b"a\n",
    b"a",
    b"a\nb\nc\nd\ne\nf\ng\nh\n",
    b"a\r\nb\r\n",
    "é\n\x0cz\n".encode(),
    b"x\n\n",
]


@pytest.mark.parametrize("name", NAMES)
def test_git_applies_every_diff(name: str, tmp_path: Path) -> None:
    for n, before in enumerate([None, *TEXTS]):
        for k, after in enumerate(TEXTS):
            if before == after:
                continue
            old = Tree({"other": b"x\n"} | ({} if before is None else {name: before}))
            new = Tree({"other": b"x\n", name: after})
            folder = tmp_path / f"{n}-{k}"
            old.write(folder)
            for path in folder.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            done = subprocess.run(
                ["git", "apply", "-"], input=trees.diff(old, new).encode(), cwd=folder,
                capture_output=True, check=False,
                env={"GIT_CEILING_DIRECTORIES": str(tmp_path)},
            )  # fmt: skip
            assert done.returncode == 0, (before, after, done.stderr, trees.diff(old, new))
            assert (folder / name).read_bytes() == after


def test_a_tree_survives_its_archive_and_reads_what_git_tracks(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text("x")
    (tmp_path / "ignored.py").write_text("x")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("/etc/passwd")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    found, left_out = trees.read(tmp_path)
    assert set(found.files) == {"kept.py", ".gitignore", "run.sh"}
    assert found.executable == {"run.sh"}
    assert left_out == ["link: not a regular file"]
    assert unpack(found.archive()).tree.hash == found.hash


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # more than memory holds
    with pytest.raises(BadInput, match="256 MiB"):
        trees.read(tmp_path)


def test_a_folder_of_a_checkout_is_read_as_git_sees_it(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(".env\n")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / ".env").write_text("KEY=secret\n")
    (tmp_path / "part" / "m.py").write_text("x = 1\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert set(trees.read(tmp_path / "part")[0].files) == {"m.py"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_else_s_checkout_is_read_as_git_sees_it(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(".env\n")
    (tmp_path / ".env").write_text("KEY=secret\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 12_345, 12_345)
    assert set(trees.read(tmp_path)[0].files) == {".gitignore"}


def test_a_repository_s_settings_run_no_program(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("x = 1\n")
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    for command in (["init", "-q"], ["config", "core.fsmonitor", str(hook)], ["add", "m.py"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "ran").unlink(missing_ok=True)
    found, _ = trees.read(tmp_path)
    assert set(found.files) == {"m.py", "hook.sh"}
    assert not (tmp_path / "ran").exists()
