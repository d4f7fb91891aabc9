"""Tests that need more than a clean copy: they are served, or set apart with the reason."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemoflows.coding import snapshots, surroundings, testing
from nemoflows.coding.types import Baseline, CodingTask, Effort
from nemoflows.coding.verdict import passes
from nemoflows.errors import BadInput
from nemoflows.sandbox.trees import Tree
from tests.coding import (
    LIMITS,
    Providers,
    committed,
    interpreter,
    policy,
    proposes,
    verdict_over,
    with_runs,
)

WRONG, RIGHT = "def f(x):\n    return x - 1\n", "def f(x):\n    return x + 1\n"
TEST = (
    "from shop.m import f\n\n\ndef test_new():\n    assert f(1) == 2\n\n\ndef test_old():\n    {}\n"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="no user of the run's own")
WRITES = {
    "file": "open('made.txt', 'w').write(str(f(1))); assert open('made.txt').read() == '2'",
    "folders": (
        "import os; os.makedirs('out/a'); open('out/a/x', 'w').close(); "
        "os.rename('out/a/x', 'out/y'); os.unlink('out/y'); assert f(1) == 2"
    ),
    "beside the test": "open(__file__ + '.log', 'w').close(); assert f(1) == 2",
    "copied fixture": (
        "import shutil; shutil.copy('data/in.txt', 'data/out.txt'); "
        "open('data/out.txt', 'a').write('x'); assert f(1) == 2"
    ),
    "tracked data": "open('data/in.txt', 'a').write('x'); assert f(1) == 2",
    "copied folder": (
        "import shutil; shutil.copytree('data', 'copied'); "
        "open('copied/in.txt', 'a').write('x'); shutil.rmtree('copied'); assert f(1) == 2"
    ),
}


@as_root
@pytest.mark.parametrize("name", WRITES)
def test_tests_may_write_into_the_working_folder(name: str) -> None:
    test = f"from m import f\n\n\ndef test_new():\n    {WRITES[name]}\n"
    base = {"m.py": WRONG, "tests/test_m.py": test, "data/in.txt": "in"}
    baseline, report = verdict_over(base, {"m.py": RIGHT})
    assert passes(report, baseline), report
    _, wrong = verdict_over(base, {"m.py": WRONG + "# the same\n"})
    assert not passes(wrong, baseline)


@as_root
@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp"])
def test_temporary_folders_by_name_are_the_run_s_own(folder: str) -> None:
    place = Path(folder) / "nemoflows-of-a-test"
    test = (
        f"import os\nfrom m import f\n\ndef test_new():\n    assert not os.path.exists('{place}')\n"
        f"    open('{place}', 'w').close()\n    assert f(1) == 2\n"
    )
    baseline, report = verdict_over({"m.py": WRONG, "test_m.py": test}, {"m.py": RIGHT})
    if report.level != "full":
        pytest.skip("no namespaces here")
    assert passes(report, baseline), report
    assert not place.exists()


@pytest.mark.parametrize(
    "settings",
    [
        "addopts = --junitxml=a/b/report.xml --basetemp=c/d --lf\nlog_file = e/f/test.log",
        "addopts = --strict-config --log-file=/nowhere/test.log\ncache_dir = /nowhere/cache",
        "addopts = --stepwise -o log_file=/proc/x.log",
    ],
)
def test_what_pytest_is_told_to_write_gets_a_scratch_place(settings: str) -> None:
    test = "from m import f\ndef test_new(tmp_path):\n    assert f(1) == 2\n"
    base = {"m.py": WRONG, "test_m.py": test, "pytest.ini": f"[pytest]\n{settings}\n"}
    baseline, report = verdict_over(base, {"m.py": RIGHT})
    assert passes(report, baseline), report


ATTACKS = {
    "rewrites a test": "open('test_z.py', 'w').write('def test_new(): pass')",
    "replaces a test": "os.unlink('test_z.py'); open('test_z.py', 'w').write('def test_new(): 0')",
    "moves a folder": (
        "os.rename('checks', 'gone'); os.mkdir('checks')\n"
        "    open('checks/test_y.py', 'w').write('def test_y(): pass')"
    ),
    "adds a conftest": (
        "open('checks/conftest.py', 'w').write('import pytest\\n"
        "@pytest.hookimpl(tryfirst=True)\\ndef pytest_pyfunc_call(pyfuncitem):\\n"
        "    return len(pyfuncitem.name) < 10 or None\\n')"
    ),
    "forges a compiled test": "open('checks/__pycache__/x.pyc', 'w'); print('FORGED')",
    "moves the copy": "os.rename(os.path.dirname(os.getcwd()), '/tmp/elsewhere')",
    "links a test away": "os.rename('test_z.py', 'was.py'); os.symlink('/dev/null', 'test_z.py')",
    "changes modes": "os.chmod('test_z.py', 0o666); open('test_z.py', 'w').close()",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_candidate_that_writes_into_the_working_folder_changes_no_test(name: str) -> None:
    test = "from m import f\ndef test_{}():\n    assert f(1) == 2\n"
    base = {
        "m.py": WRONG,
        "a/test_a.py": "from m import f\ndef test_a():\n    assert f is not None\n",
        "checks/test_y.py": test.format("y"),
        "test_z.py": test.format("new"),
    }
    cheat = f"import os\ntry:\n    {ATTACKS[name]}\nexcept OSError:\n    pass\n{WRONG}"
    baseline, report = verdict_over(base, {"m.py": cheat})
    assert len(baseline.target) == 2
    assert not passes(report, baseline), report
    assert {r.test for r in report.failing} == set(baseline.target) or report.ending == "tampered"
    assert "FORGED" not in report.detail


def examined(repo: Path, issue: str = "f takes away", **more: Any) -> Baseline:
    """Return what `examine` finds out of a folder."""
    kept = snapshots.snapshot(str(repo), root=f"{repo}-kept")
    task = CodingTask(repository=kept, issue=issue, limits=LIMITS, **more)
    return with_runs(
        f"{repo}-journal",
        lambda runs: testing.examine(task, runs=runs, index_root=f"{repo}-index"),
    )


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interpreter")
    for each in (folder, folder.parent, folder.parent.parent):
        each.chmod(0o755)
    interpreter(folder / "venv")
    return folder / "venv"


FINDER = """
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
MAPPING = {{'shop': '{0}/shop'}}
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        place = MAPPING.get(name)
        file = Path(place, '__init__.py') if place else None
        if file and file.exists():
            return spec_from_file_location(name, file, submodule_search_locations=[place])
sys.meta_path.append(Finder)
"""
REDIRECTOR = """
import sys
from importlib.util import spec_from_file_location
class Redirecting:
    _redirections = {{}}
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in cls._redirections:
            try:
                open(cls._redirections[name]).close()
            except OSError:
                return None
            where = [cls._redirections[name].rpartition('/')[0]]
            file = cls._redirections[name]
            return spec_from_file_location(name, file, submodule_search_locations=where)
Redirecting._redirections['shop'] = '{0}/shop/__init__.py'
sys.meta_path.append(Redirecting)
"""


@pytest.mark.parametrize("how", ["path file", "mapping", "redirector", "linked", "PYTHONPATH"])
def test_a_package_installed_to_be_edited_comes_from_the_copy(
    how: str, venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import shop'], check=1)"
    if how == "redirector":
        body = "import shop.m"
    files = {
        "parts/one/lib/shop/__init__.py": "",
        "parts/one/lib/shop/m.py": WRONG,
        "parts/one/checks/test_m.py": TEST.format(body),
    }
    repo = committed(tmp_path / "repo", files)
    lib = repo / "parts" / "one" / "lib"
    [places] = venv.glob("lib/python*/site-packages")
    made = [places / name for name in ("_shop.pth", "__editable___shop.py", "shop")]
    try:
        if how == "path file":
            made[0].write_text(f"{lib}\n")
        elif how in {"mapping", "redirector"}:
            made[0].write_text("import __editable___shop\n")
            made[1].write_text({"mapping": FINDER, "redirector": REDIRECTOR}[how].format(lib))
        elif how == "linked":
            made[2].symlink_to(lib / "shop")
        else:
            monkeypatch.setenv("PYTHONPATH", str(lib))
        baseline = examined(repo, test_command=f"{venv}/bin/python -m pytest")
    finally:
        for each in made:
            each.unlink(missing_ok=True)
    assert baseline.target == ["parts/one/checks/test_m.py::test_new"], baseline.report
    assert baseline.set_apart == {}


def test_an_interpreter_inside_the_repository_keeps_its_packages(tmp_path: Path) -> None:
    files = {"lib/shop/__init__.py": "", "lib/shop/m.py": WRONG, "test_m.py": TEST.format("pass")}
    repo = committed(tmp_path / "repo", files, "/.venv\n")
    places = interpreter(repo / ".venv")
    (places / "edited.pth").write_text(f"{repo}/lib\n")
    baseline = examined(repo, test_command=f"{repo}/.venv/bin/python -m pytest")
    assert baseline.target == ["test_m.py::test_new"], baseline.report


SERVED = {
    "generated module": ("from shop._made import version; assert version == 7", "_made.py"),
    "data": ("import shop; open(shop.__path__[0] + '/rates.bin', 'rb').close()", "rates.bin"),
    "folder": ("import os, shop; assert os.listdir(shop.__path__[0] + '/cache')", "cache"),
    "git": ("import shop.git; assert shop.git.version == 'v1.4'", ""),
    "metadata": ("import importlib.metadata as m; assert m.version('shop-x') == '3'", "*.egg-info"),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
def test_what_git_ignores_is_taken_in_where_a_test_asks_for_it(name: str, tmp_path: Path) -> None:
    body, ignored = SERVED[name]
    files = {"shop/__init__.py": "", "shop/m.py": WRONG, "test_m.py": TEST.format(body)}
    files["shop/git.py"] = (
        "import subprocess\nversion = subprocess.run(['git', 'describe', '--tags'], check=True, "
        "capture_output=True, text=True).stdout.strip()\n"
    )
    repo = committed(tmp_path / "repo", files, f"{ignored}\n.env\ncache\n")
    (repo / "shop" / "_made.py").write_text("version = 7\n")
    (repo / "shop" / "rates.bin").write_bytes(b"\xff\x00")
    (repo / "shop" / "cache").mkdir()
    (repo / "shop" / "cache" / "x").write_text("x")
    (repo / ".env").write_text("KEY=hush")
    for hidden in ("key.pem", "prod.env", "my-token.txt", ".aws/config", ".git/note"):
        (repo / "shop" / "cache" / hidden).parent.mkdir(exist_ok=True)
        (repo / "shop" / "cache" / hidden).write_text("KEY=hush")
    (repo / "shop" / "cache" / "link").symlink_to(repo / ".env")
    (repo / "shop_x.egg-info").mkdir()
    (repo / "shop_x.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nVersion: 3\n")
    baseline = examined(repo)
    assert baseline.target == ["test_m.py::test_new"], baseline.report
    assert baseline.set_apart == {}
    kept = snapshots.opened(baseline.task.repository)
    assert not any(b"hush" in data for data in kept.files.values())


def test_a_file_that_only_an_assertion_s_message_names_is_not_missed() -> None:
    said = "open('d/x.txt').read()"
    for test, is_said in ((f"f() == 2, {said}", True), (f"{said} == 'x', 'no'", False)):
        text = f">       assert {test}\nE  FileNotFoundError: [Errno 2] No such file: 'd/x.txt'"
        assert surroundings._is_said(text, "d/x.txt") is is_said


def test_an_import_that_asks_git_is_served(tmp_path: Path) -> None:
    start = (
        "import subprocess\nfrom pathlib import Path\nhere = Path(__file__).parent\n"
        "subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=here, check=True, capture_output=True)\n"
    )
    files = {"shop/__init__.py": start, "shop/m.py": WRONG, "test_m.py": TEST.format("pass")}
    repo = committed(tmp_path / "repo", files)
    (repo / ".git" / "config").open("a").write('[remote "origin"]\n\turl = https://u:hush@x/\n')
    baseline = examined(repo)
    assert baseline.target == ["test_m.py::test_new"], baseline.report
    kept = snapshots.opened(baseline.task.repository)
    assert not any(b"hush" in data for data in kept.files.values())


APART = {
    "a file of the tests'": ("open('tests/a.json', 'w').close()", "cannot be written"),
    "a place of the system's": ("open('/opt/x', 'w').close()", "/opt/x"),
    "a key": ("open('.env').close()", r"\.env"),
    "a network": ("import socket; socket.create_connection(('example.org', 80))", "network"),
    "outside": ("open('/etc/hostname').close()", "outside the repository"),
}


@pytest.mark.parametrize("name", APART)
def test_what_cannot_be_served_is_set_apart_with_the_reason(name: str, tmp_path: Path) -> None:
    body, why = APART[name]
    files = {"shop/__init__.py": "", "shop/m.py": WRONG, "test_m.py": TEST.format(body)}
    files["tests/a.json"] = "{}"
    repo = committed(tmp_path / "repo", files, ".env\n")
    (repo / ".env").write_text("KEY=hush")
    for hidden in ("key.pem", "prod.env", "my-token.txt", ".aws/config", ".git/note"):
        (repo / "shop" / "cache" / hidden).parent.mkdir(exist_ok=True)
        (repo / "shop" / "cache" / hidden).write_text("KEY=hush")
    (repo / "shop" / "cache" / "link").symlink_to(repo / ".env")
    baseline = examined(repo)
    assert baseline.target == ["test_m.py::test_new"], baseline.report
    [(test, told)] = baseline.set_apart.items()
    assert test == "test_m.py::test_old"
    assert re.search(why, told), told
    named = ["test_m.py"]
    if name in {"a key", "a file of the tests'"}:
        with pytest.raises(BadInput, match="cannot be judged"):
            examined(repo, target_tests=named)
    else:
        assert set(examined(repo, target_tests=named).target) == {"test_m.py::test_new", test}


ELSEWHERE = {
    "above": "open('../rates.txt').close()",
    "above the test": "from pathlib import Path; (Path(__file__).parents[2] / 'rates.txt').stat()",
    "beside the test": "open('data/in.txt').close()",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_file_that_a_test_looks_for_in_another_folder_is_not_the_issue_s(
    name: str, tmp_path: Path
) -> None:
    files = {"shop/__init__.py": "", "shop/m.py": WRONG, "app/data/in.txt": "x"}
    files["app/test_m.py"] = TEST.format(ELSEWHERE[name])
    (tmp_path / "rates.txt").write_text("7")
    baseline = examined(committed(tmp_path / "repo", files))
    assert baseline.target == ["app/test_m.py::test_new"], baseline.report
    [told] = baseline.set_apart.values()
    assert re.search(r"outside the folder that is named|data/in.txt in app", told), told


def test_imports_that_fail_by_the_surroundings_cost_no_call(
    providers: Providers, tmp_path: Path
) -> None:
    from workflows.coding import fix_issue

    providers.play(small=proposes(""), large=proposes(""))
    files = {
        "shop/m.py": WRONG,
        "test_m.py": "import zzz_not_there\n" + TEST.format("pass"),
    }
    repo = committed(tmp_path / "repo", files)
    with pytest.raises(Exception, match=r"zzz_not_there.*install it"):
        fix_issue(repo=str(repo), issue="x", policy=policy(), effort=Effort(candidates=1))
    assert providers.n_calls == 0


def test_tests_of_a_folder_below_that_are_run_at_the_top_cost_no_call(
    providers: Providers, tmp_path: Path
) -> None:
    from workflows.coding import fix_issue

    providers.play(small=proposes(""), large=proposes(""))
    below = {"__init__.py": "", "m.py": WRONG}
    files = {f"{place}/shop/{name}": text for place in ("a", "b/c") for name, text in below.items()}
    files["b/c/tests/test_m.py"] = TEST.format("pass")
    files["b/c/tests/test_n.py"] = "def test_n():\n    from shop import m\n    assert m\n"
    repo = committed(tmp_path / "repo", files)
    told = "lies in b/c, as where tests are run there: name that folder, or add `-o pythonpath=b/c`"
    with pytest.raises(Exception, match=re.escape(told)):
        fix_issue(repo=str(repo), issue="x", policy=policy(), effort=Effort(candidates=1))
    assert providers.n_calls == 0
    assert examined(repo / "b" / "c").target == ["tests/test_m.py::test_new"]
    command = f"{sys.executable} -m pytest -o pythonpath=b/c"
    assert examined(repo, test_command=command).target == ["b/c/tests/test_m.py::test_new"]


def test_a_module_that_the_issue_asks_for_is_no_fault_of_the_surroundings(tmp_path: Path) -> None:
    repo = committed(
        tmp_path / "repo", {"test_m.py": "from fizz import buzz\ndef test_b(): buzz()\n"}
    )
    assert examined(repo, "Write fizz.py with a function buzz").target == ["test_m.py"]


def test_a_temporary_folder_without_room_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = committed(tmp_path / "repo", {"m.py": WRONG, "test_m.py": "def test_m(): assert 0\n"})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Tree, "write", full)
    with pytest.raises(BadInput, match=r"no room .*TMPDIR"):
        testing._search("f", Tree({"m.py": b""}), str(tmp_path / "index"))
    with pytest.raises(BadInput, match=r"no room .*TMPDIR"):
        examined(repo)


def test_a_plugin_s_error_is_told_as_what_it_is() -> None:
    base = {
        "m.py": WRONG,
        "test_m.py": "from m import f\ndef test_new():\n    assert f(1) == 2\n",
        "conftest.py": "def pytest_runtest_logreport(report):\n    raise KeyError('odd')\n",
    }
    with pytest.raises(BadInput, match=r"(?s)plugin of it, had an error.*odd"):
        verdict_over(base, {"m.py": RIGHT})


def test_the_clock_stands_while_pytest_reports() -> None:
    slow = LIMITS.model_copy(update={"test_seconds": 1})
    base = {
        "m.py": WRONG,
        "test_m.py": "from m import f\ndef test_new():\n    assert f(1) == 2\n",
        "conftest.py": (
            "import time\ndef pytest_runtest_logreport(report):\n    time.sleep(0.7)\n"
            "def pytest_runtest_logfinish(nodeid):\n    time.sleep(1.2)\n"
        ),
    }
    baseline, report = verdict_over(base, {"m.py": RIGHT}, limits=slow)
    assert passes(report, baseline), report


@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(60)"])
def test_a_clock_rings_in_fixtures_too(body: str) -> None:
    slow = LIMITS.model_copy(update={"test_seconds": 1})
    fixture = f"import pytest\n@pytest.fixture\ndef slow():\n    {body}\n"
    base = {
        "m.py": WRONG,
        "test_m.py": f"{fixture}from m import f\ndef test_new():\n    assert f(1) == 2\n"
        "def test_slow(slow): pass\n",
    }
    baseline, _ = verdict_over(base, {"m.py": RIGHT}, limits=slow)
    assert "more than 1 s" in baseline.report.failing[1].text


def test_a_diff_applies_where_the_user_stands(tmp_path: Path) -> None:
    from workflows.coding import fix_issue

    test = TEST.format("pass").replace("shop.", "")
    top = committed(tmp_path / "top", {"a/b/m.py": WRONG, "a/b/test_m.py": test})
    patch = fix_issue(repo=str(top / "a" / "b"), issue="f takes away").patch
    assert patch.status == "verified"
    for folder in (top / "a" / "b", top):
        subprocess.run(["git", "checkout", "-q", "."], cwd=top, check=True)
        subprocess.run(["git", "apply", "-"], input=patch.diff, text=True, cwd=folder, check=True)
        assert (top / "a" / "b" / "m.py").read_text() != WRONG


def test_links_that_stay_inside_and_submodules_are_in_the_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.coding import fix_issue

    body = "import json, part.n, shop; assert json.load(open(shop.__path__[0] + '/data/a.json'))"
    far = "open('far/hostname').close()"
    files = {"shop/__init__.py": "", "shop/m.py": WRONG, "shared/a.json": "[1]"}
    files |= {"test_m.py": TEST.format(body), "test_far.py": f"def test_far():\n    {far}\n"}
    part = committed(tmp_path / "part", {"__init__.py": "", "n.py": "N = 1\n"})
    (tmp_path / "repo" / "shop").mkdir(parents=True)
    (tmp_path / "repo" / "shop" / "data").symlink_to("../shared")
    (tmp_path / "repo" / "far").symlink_to("/etc")
    shutil.copytree(part, tmp_path / "repo" / "part")
    repo = committed(tmp_path / "repo", files)
    fixed = fix_issue(repo=str(repo), issue="f takes away")
    assert fixed.patch.status == "verified", fixed.patch
    told = capsys.readouterr().out
    html = Path(str(fixed.report)).read_text("utf-8")
    assert re.search(r"set apart: test_far.py::test_far: .*far", told), told
    assert "set apart: far: a link that leads to nothing in the copy" in html, "beside the test"


@pytest.mark.parametrize("how", ["path file", "mapping", "linked"])
def test_a_package_that_is_edited_outside_is_named_before_anything_is_paid(
    how: str, venv: Path, tmp_path: Path
) -> None:
    lib = tmp_path / "other"
    (lib / "shop").mkdir(parents=True)
    (lib / "shop" / "__init__.py").write_text("")
    [places] = venv.glob("lib/python*/site-packages")
    made = [places / name for name in ("_shop.pth", "__editable___shop.py", "shop")]
    files = {"m.py": RIGHT, "test_m.py": TEST.format("import shop").replace("shop.m", "m")}
    try:
        if how == "path file":
            made[0].write_text(f"{lib}\n")
        elif how == "mapping":
            made[0].write_text("import __editable___shop\n")
            made[1].write_text(FINDER.format(lib))
        else:
            made[2].symlink_to(lib / "shop")
        python = f"{venv}/bin/python -m pytest"
        repo = committed(tmp_path / "repo", files)
        with pytest.raises(BadInput, match=f"takes it from {lib}.*pip install"):
            examined(repo, test_command=python)
    finally:
        for each in made:
            each.unlink(missing_ok=True)
