"""Candidates that cheat, each judged by a real run in the sandbox."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nemoflows.coding import commands, edits, runs
from nemoflows.coding.protected import Protection
from nemoflows.coding.runs import Ran, RunOptions, TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import Edit
from nemoflows.coding.verdict import passes
from nemoflows.errors import BadInput
from nemoflows.sandbox.runs import Ended
from nemoflows.sandbox.trees import Tree
from tests.coding import interpreter, task_of, verdict_over, with_runs
from tests.journals import content, rewrite

BASE = {
    "m.py": "def f(x):\n    return x - 1\n",
    "tests/test_m.py": (
        "import unittest\nfrom m import f\n\n\ndef test_old():\n    assert f is not None\n\n\n"
        "def test_new():\n    assert f(1) == 2\n\n\nclass TestUnit(unittest.TestCase):\n"
        "    def test_unit(self):\n        self.assertEqual(f(2), 3)\n"
    ),
}
HONEST = "def f(x):\n    return x + 1\n"
WRONG = BASE["m.py"]

CHEATS = {
    "exits": "import os\nos._exit(0)\n",
    "exits later": f"import atexit, os\natexit.register(lambda: os._exit(0))\n{WRONG}",
    "exits in the test": "import os\ndef f(x):\n    os._exit(0)\n",
    "raises SystemExit": "raise SystemExit(0)\n",
    "conftest": WRONG,
    "patches the report": (
        "import _pytest.reports as r\nold = r.TestReport.from_item_and_call\n"
        "def new(item, call):\n    report = old(item, call)\n    report.outcome = 'passed'\n"
        f"    return report\nr.TestReport.from_item_and_call = new\n{WRONG}"
    ),
    "patches the call": (
        f"import _pytest.python as p\np.Function.runtest = lambda self: None\n{WRONG}"
    ),
    "stubs unittest": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n"
        "import _pytest.python as p\n" + WRONG
    ),
    "stubs raises": f"import pytest\npytest.raises = lambda *a: open('/dev/null')\n{WRONG}",
    "stubs AssertionError": (
        "import builtins\nclass E(Exception):\n    def __new__(cls, *a):\n"
        f"        import pytest\n        return pytest.skip.Exception('x')\n"
        f"builtins.AssertionError = E\n{WRONG}"
    ),
    "swaps code": (
        "import _pytest.python as p\n"
        f"p.Function.runtest.__code__ = (lambda self: None).__code__\n{WRONG}"
    ),
    "writes the report": (
        "import json, os\nfor fd in range(3, 64):\n    try:\n"
        "        os.write(fd, b'{\"test\": \"tests/test_m.py::test_new\", \"outcome\": \"passed\"}\\n'\n"
        "                 b'{\"end\": 0, \"changed\": []}\\n')\n    except OSError:\n        pass\n"
        "os._exit(0)\n"
    ),
    "deselects": (
        "import _pytest.main as m\nold = m.Session.perform_collect\n"
        "def new(self, *a, **k):\n    items = old(self, *a, **k)\n"
        f"    self.items[:] = [i for i in items if 'old' in i.name]\n    return self.items\n"
        f"m.Session.perform_collect = new\n{WRONG}"
    ),
    "rewrites the tests": (
        "import glob\nfor path in glob.glob('tests/*.py'):\n    try:\n"
        f"        open(path, 'w').write('def test_new(): pass')\n    except OSError:\n        pass\n{WRONG}"
    ),
}  # fmt: skip
MORE = {
    "conftest": {
        "conftest.py": (
            "import pytest\n@pytest.hookimpl(hookwrapper=True)\n"
            "def pytest_runtest_makereport(item, call):\n    out = yield\n"
            "    out.get_result().outcome = 'passed'\n"
        ),
        "pytest.ini": "[pytest]\naddopts = -k old\n",
    }
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_candidate_that_cheats_does_not_pass(name: str) -> None:
    baseline, report = verdict_over(BASE, {"m.py": CHEATS[name]} | MORE.get(name, {}))
    assert len(baseline.target) == 2
    assert not passes(report, baseline), report


@pytest.mark.parametrize(
    "name", ["patches the report", "patches the call", "stubs unittest", "swaps code", "deselects"]
)
def test_an_interference_with_the_runner_is_called_so(name: str) -> None:
    _, report = verdict_over(BASE, {"m.py": CHEATS[name]})
    assert report.ending == "tampered", report


def test_a_test_whose_code_was_swapped_is_told() -> None:
    base = {
        "m.py": WRONG,
        "test_m.py": (
            "from m import f\ndef test_old():\n    f(0)\ndef test_new():\n    assert f(1) == 2\n"
        ),
    }
    swap = (
        "import sys\ndef f(x):\n    tests = sys._getframe(1).f_globals\n"
        "    tests['test_new'].__code__ = (lambda: None).__code__\n    return x - 1\n"
    )
    baseline, report = verdict_over(base, {"m.py": swap})
    assert report.ending == "tampered"
    assert not passes(report, baseline)


EARLY = {
    "m.py": WRONG,
    "test_m.py": (
        "import pytest\nfrom m import f\n\n\ndef test_old():\n    f(0)\n\n\n"
        "def test_new():\n    assert f(1) == 2\n\n\ndef test_raises():\n"
        "    with pytest.raises(ValueError):\n        f(-1)\n"
    ),
}
FROM_WITHIN = {
    "a result, and puts all back": (
        "import _pytest.reports as r\nT = r.TestReport\nold = vars(T)['from_item_and_call']\n"
        "def new(cls, item, call):\n    if call.when == 'call':\n"
        "        T.from_item_and_call, call.excinfo = old, None\n"
        "    return old.__func__(cls, item, call)\n"
        "def f(x):\n    T.from_item_and_call = classmethod(new)\n    return x - 1\n"
    ),
    "a module, and puts it back": (
        "import contextlib, sys, types, pytest as real\nfake = types.ModuleType('pytest')\n"
        "vars(fake).update(vars(real))\nfake.raises = lambda *a: contextlib.nullcontext()\n"
        "sys.modules['pytest'] = fake\n"
        "def f(x):\n    sys.modules['pytest'] = real\n    return x + 1\n"
    ),
    "a name of the tests": (
        "import contextlib, sys, types\n"
        "fake = types.SimpleNamespace(raises=lambda *a: contextlib.nullcontext())\n"
        "def f(x):\n    sys._getframe(1).f_globals['pytest'] = fake\n    return x + 1\n"
    ),
    "how a test is run": (
        "import sys\ndef f(x):\n    for each in sys.meta_path:\n"
        "        for item in getattr(getattr(each, 'session', None), 'items', ()):\n"
        "            if not any(map(str.isdigit, item.name)):\n"
        "                item.runtest = lambda: None\n    return x - 1\n"
    ),
    "a hook": (
        "import sys\ndef new(pyfuncitem):\n"
        "    if any(map(str.isdigit, pyfuncitem.name)):\n        pyfuncitem.obj()\n"
        "    return True\ndef f(x):\n    for each in sys.meta_path:\n"
        "        if hasattr(each, 'config'):\n"
        "            hooks = each.config.hook.pytest_pyfunc_call._hookimpls\n"
        "            hooks[0].function = new\n    return x - 1\n"
    ),
    "a base's property": (
        "import _pytest.reports as r\ndef new(self):\n"
        "    return 'failed' if any(map(str.isdigit, self.nodeid)) else 'passed'\n"
        "def f(x):\n    r.TestReport.failed = property(lambda self: new(self) == 'failed')\n"
        "    return x - 1\n"
    ),
    "every line": (
        "import gc, os\ndef f(x):\n"
        "    found = {type(each).__name__: each for each in gc.get_objects()}\n"
        "    canaries, line = found['Reporter']._canaries, found['Report'].line\n"
        "    for item in found['Session'].items:\n"
        "        is_one = item.nodeid in canaries\n"
        "        more = {'canary': True, 'outcome': 'failed'} if is_one else {'outcome': 'passed'}\n"
        "        line(test=item.nodeid, seconds=0.1, text='', **more)\n"
        "    line(end=0)\n    os._exit(0)\n"
    ),
    "the next line": (
        "import sys\ndef f(x):\n    sys.settrace(lambda *a: None)\n    return x + 1\n"
    ),
}  # fmt: skip
"""What a candidate replaces while the first test runs."""


@pytest.mark.parametrize("name", FROM_WITHIN)
def test_what_is_replaced_for_a_while_is_told_whatever_is_told_later(name: str) -> None:
    baseline, report = verdict_over(EARLY, {"m.py": FROM_WITHIN[name]})
    assert len(baseline.target) == 2
    assert (report.ending, "runner" in report.detail) == ("tampered", True), report
    assert not passes(report, baseline)


def test_what_the_baseline_replaces_or_reaches_for_a_candidate_may_too() -> None:
    own = "import gc, sys\nimport _pytest.reports as r\n"
    use = (
        "    gc.get_referrers(f)\n    sys.setprofile(None)\n"
        "    r.TestReport.__repr__ = lambda self: 'x'\n"
    )
    base = {path: text.replace("    f(0)\n", f"    f(0)\n{use}") for path, text in EARLY.items()}
    base["test_m.py"] = own + base["test_m.py"]
    right = {"m.py": "def f(x):\n    if x < 0:\n        raise ValueError\n    return x + 1\n"}
    baseline, report = verdict_over(base, right)
    assert passes(report, baseline), report


@pytest.mark.parametrize("skips", ["pytest.skip('x')", "pytest.xfail('x')"])
def test_skipping_what_passed_is_no_repair(skips: str) -> None:
    base = EARLY | {"test_n.py": "from m import f\ndef test_zero():\n    assert f(0) == -1\n"}
    right = "def f(x):\n    if x < 0:\n        raise ValueError\n    return x + 1\n"
    skipping = f"import pytest, sys\n{right}".replace(
        "    if", f"    if sys._getframe(1).f_code.co_name == 'test_zero':\n        {skips}\n    if"
    )
    baseline, report = verdict_over(base, {"m.py": skipping})
    assert [(r.test, r.outcome) for r in report.not_passed] == [("test_n.py::test_zero", "skipped")]
    assert not passes(report, baseline)


NAMED = {"pytest.ini": "[pytest]\npython_files = check_*.py\naddopts = --doctest-modules\n"}


def test_tests_are_the_baselines_whatever_their_files_are_called() -> None:
    check = {"check_m.py": "from m import f\ndef test_new():\n    assert f(1) == 2\n"}
    base = {"m.py": WRONG} | check | NAMED
    baseline, report = verdict_over(base, {"check_m.py": "def test_new():\n    pass\n"})
    assert baseline.target == ["check_m.py::test_new"]
    assert not passes(report, baseline)


def test_a_source_with_examples_can_be_changed() -> None:
    example = 'def f(x):\n    """Add one.\n\n    >>> f(1)\n    2\n    """\n    return x '
    baseline, report = verdict_over(
        {"m.py": f"{example}- 1\n"} | NAMED, {"m.py": f"{example}+ 1\n"}
    )
    assert baseline.target == ["m.py::m.f"]
    assert passes(report, baseline)


@pytest.mark.parametrize("path", ["test_use.txt", "docs/use.rst"])
def test_examples_in_a_file_of_text_are_tests(path: str) -> None:
    base = BASE | {path: ">>> from m import f\n>>> f(1)\n2\n"}
    bought = {path: ">>> from m import f\n>>> f(1)\n0\n"}
    glob = "-p no:cacheprovider --doctest-glob=*.rst --doctest-glob=test*.txt"
    command = f"{sys.executable} -m pytest {glob}"
    baseline, report = verdict_over(base, bought, test_command=command)
    assert path in {test.partition("::")[0] for test in baseline.target}
    assert not passes(report, baseline)
    wanted = Edit(path=path, search="2", replace="0")
    tree = Tree({name: text.encode() for name, text in base.items()})
    assert isinstance(edits.apply(tree, [wanted], Protection.of(baseline)), list)


def test_an_honest_candidate_passes() -> None:
    baseline, report = verdict_over(BASE, {"m.py": HONEST})
    assert passes(report, baseline), report
    assert report.n_passed == 3


def test_breaking_what_passed_is_no_repair() -> None:
    base = BASE | {
        "tests/test_more.py": "from m import f\ndef test_zero():\n    assert f(0) == -1\n"
    }
    baseline, report = verdict_over(base, {"m.py": HONEST})
    assert not passes(report, baseline)
    assert [r.test for r in report.not_passed] == ["tests/test_more.py::test_zero"]


def test_a_test_that_never_ends_fails_and_the_others_go_on() -> None:
    base = BASE | {"m.py": "def f(x):\n    while x == 1:\n        pass\n    return x + 1\n"}
    baseline, report = verdict_over(base, {"m.py": HONEST})
    assert baseline.target == ["tests/test_m.py::test_new"]
    assert passes(report, baseline)


def test_a_module_that_could_not_be_collected_may_bring_its_tests() -> None:
    base = BASE | {"tests/test_n.py": "from m import g\ndef test_g():\n    assert g() == 5\n"}
    fixed = {"m.py": HONEST + "def g():\n    return 5\n"}
    baseline, report = verdict_over(base, fixed)
    assert "tests/test_n.py" in baseline.target
    assert passes(report, baseline), report
    _, half = verdict_over(base, {"m.py": HONEST + "def g():\n    return 6\n"})
    assert not passes(half, baseline)


def test_a_syntax_error_is_broken_and_not_tampered() -> None:
    baseline, report = verdict_over(BASE, {"m.py": "def f(x:\n"})
    assert report.ending == "broken"
    assert not passes(report, baseline)


def test_a_finished_run_is_not_repeated_and_a_damaged_record_is(tmp_path: Path) -> None:
    tree = Tree({path: text.encode() for path, text in BASE.items()})

    async def twice(runs: TestRuns) -> tuple[bool, int]:
        await runs.run(task_of(tree), tree, RunOptions())
        _, replayed = await runs.run(task_of(tree), tree, RunOptions())
        return replayed, runs.n_run

    assert with_runs(tmp_path, twice) == (True, 1)
    assert with_runs(tmp_path, twice) == (True, 0)
    [(name, data)] = content(tmp_path, "tests").items()
    rewrite(tmp_path, name, data[:100])
    assert with_runs(tmp_path, twice) == (True, 1)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("make test", "pytest"),
        ("", "pytest"),
        ("pytest 'x", "pytest"),
        ("/no/python -m pytest", "no"),
    ],
)
def test_a_command_that_runs_no_pytest_is_refused(command: str, word: str) -> None:
    tree = Tree({"a.py": b""})
    with pytest.raises(BadInput, match=word):
        with_runs("", lambda runs: baseline_of(task_of(tree, test_command=command), tree, runs))


def test_a_repository_without_tests_is_refused() -> None:
    tree = Tree({"a.py": b"x = 1\n"})
    with pytest.raises(BadInput, match="no test was collected"):
        with_runs("", lambda runs: baseline_of(task_of(tree), tree, runs))


def test_a_repository_may_have_the_name_of_this_library() -> None:
    """Else a change of ours would be judged by the installed code, and no file could be added."""
    test = "from nemoflows.m import f\ndef test_new():\n    assert f(1) == 2\n"
    base = {"nemoflows/__init__.py": "", "nemoflows/m.py": WRONG, "test_m.py": test}
    baseline, report = verdict_over(base, {"nemoflows/m.py": HONEST})
    assert passes(report, baseline), report
    before = Tree({path: text.encode() for path, text in base.items()})
    added = edits.apply(before, [Edit(path="nemoflows/more.py", search="", replace="x = 1\n")])
    assert isinstance(added, Tree)


def test_a_report_that_nobody_can_read_is_no_end_of_the_flow() -> None:
    def told(line: str) -> Ran:
        ended = Ended("ended", 0, "", line, 1.0)
        return runs.read(ended, key="k", token="t", copy_python="p")

    assert not told("[" * 200_000).complete
    for line in (
        {"test": "a", "outcome": "odd"},
        {"test": "a", "outcome": "passed"},
        {"ran": "a", "lines": {"m.py": ["x"]}},
        {"collected": ["\ud800"]},
        {"end": 0, "changed": [7]},
    ):
        told(json.dumps({"token": "t"} | line)).model_dump_json()


def test_text_that_is_no_text_is_recorded(tmp_path: Path) -> None:
    bad = {"m.py": "def f(x):\n    raise ValueError('\\ud800')\n"}
    baseline, report = verdict_over(BASE | bad, {"m.py": HONEST}, root=tmp_path)
    assert passes(report, baseline)


def test_a_record_of_a_weaker_level_is_not_taken_for_more(tmp_path: Path) -> None:
    tree = Tree({path: text.encode() for path, text in BASE.items()})

    async def once(runs: TestRuns) -> bool:
        return (await runs.run(task_of(tree), tree, RunOptions()))[1]

    assert with_runs(tmp_path, once) is False
    [(name, data)] = content(tmp_path, "tests").items()
    known = Ran.model_validate_json(data).model_copy(update={"level": "weak"})
    rewrite(tmp_path, name, known.model_dump_json().encode())
    assert with_runs(tmp_path, once) is False
    assert with_runs(tmp_path, once) is True


def test_a_run_that_was_killed_from_outside_is_not_recorded(tmp_path: Path) -> None:
    tree = Tree({"test_m.py": b"import os\ndef test_a():\n    os.kill(os.getpid(), 9)\n"})

    async def once(runs: TestRuns) -> bool:
        return (await runs.run(task_of(tree), tree, RunOptions()))[0].was_killed

    assert with_runs(tmp_path, once)
    assert not content(tmp_path, "tests")


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--co"])
def test_a_command_that_stops_early_is_told_so(option: str) -> None:
    tree = Tree({path: text.encode() for path, text in BASE.items()})
    task = task_of(tree, test_command=f"pytest {option}")
    with pytest.raises(BadInput, match="leave them out"):
        with_runs("", lambda runs: baseline_of(task, tree, runs))


def test_a_journal_that_takes_no_record_costs_no_run(tmp_path: Path) -> None:
    root = tmp_path / "objects"  # where a record is a file, one in a folder's place keeps it out
    root.mkdir()
    (root / "tests").write_text("in the way")
    _, report = verdict_over(BASE, {"m.py": HONEST}, root=f"file://{root}")
    assert report.ending == "finished"
    assert (root / "tests").read_text() == "in the way"


def test_an_interpreter_is_found_from_where_the_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(sys.executable).parent)
    name = Path(sys.executable).name
    assert commands.read_command(f"./{name} -m pytest").python == str(Path.cwd() / name)


METADATA = "Metadata-Version: 2.1\nName: x\nVersion: 1\n"
PASSES = (
    "import pytest\n\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_pyfunc_call(pyfuncitem):\n"
    "    return pyfuncitem.name == 'test_new' or None\n"
)


@pytest.mark.parametrize("folder", ["x-1.dist-info", "x.egg-info", "src/X.Dist-Info"])
def test_a_plugin_that_a_candidate_adds_is_not_loaded(folder: str) -> None:
    about = "PKG-INFO" if "egg" in folder else "METADATA"
    added = {
        f"{folder}/{about}": METADATA,
        f"{folder}/entry_points.txt": "[pytest11]\nx = helper\n",
        "helper.py": PASSES,
    }
    baseline, report = verdict_over(BASE, added)
    assert report.ending == "finished"
    assert not passes(report, baseline)


@pytest.mark.parametrize("plugin", ["more, 'more'", "more", "more.Plugin()", "more.Plugin"])
def test_a_plugin_that_the_baseline_has_not_is_told(plugin: str) -> None:
    """However it came to be loaded: here by a module that the tests import."""
    base = BASE | {"conftest.py": "import m\ndef pytest_configure(config):\n    m.start(config)\n"}
    base["m.py"] += "def start(config):\n    pass\n"
    helper = f"def start(config):\n    import more\n    config.pluginmanager.register({plugin})\n"
    more = PASSES + "class Plugin:\n    pytest_pyfunc_call = staticmethod(pytest_pyfunc_call)\n"
    baseline, report = verdict_over(base, {"m.py": WRONG + helper, "more.py": more})
    assert (report.ending, "more" in report.detail) == ("tampered", True), report
    assert "conftest.py" in baseline.report.plugins
    assert not passes(report, baseline)


@pytest.mark.parametrize("path", ["numpy.py", "src/numpy/__init__.py", "checks/numpy.py"])
def test_a_module_in_place_of_an_installed_one_is_told(path: str) -> None:
    """Here what the tests compare with; the baseline's own name is no such thing."""
    test = (
        "import numpy\nfrom m import f\ndef test_new():\n    numpy.testing.assert_equal(f(1), 2)\n"
    )
    base = {"m.py": WRONG, "checks/m_test.py": test, "yaml.py": ""}
    fake = "class testing:\n    assert_equal = print\n"
    baseline, report = verdict_over(base, {path: fake})
    assert (report.ending, "numpy" in report.detail) == ("tampered", True), report
    assert not passes(report, baseline)
    baseline, report = verdict_over(base, {"m.py": HONEST})
    assert passes(report, baseline), report


def test_a_module_in_place_of_python_s_own_is_told_wherever_modules_are_found() -> None:
    base = {
        "lib/m.py": WRONG,
        "pytest.ini": "[pytest]\npythonpath = lib\n",
        "lib/queue.py": "",
        "checks/m_test.py": (
            "import statistics\nfrom m import f\ndef test_new():\n"
            "    assert f(1) == statistics.mean([1, 3])\n"
        ),
    }
    fake = {"lib/statistics.py": "def mean(_):\n    return 0\n"}
    baseline, report = verdict_over(base, fake)
    assert (report.ending, "statistics" in report.detail) == ("tampered", True), report
    assert not passes(report, baseline)


def test_a_plugin_that_is_the_repository_s_own_runs_in_the_sandbox_alone(tmp_path: Path) -> None:
    repository, trace = tmp_path / "repository", tmp_path / "trace"
    places = interpreter(venv := tmp_path / "venv")
    (places / "editable.pth").write_text(f"{repository}\n")
    info = places / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest11]\nplug = plug\n")
    source = (
        "import pytest\ntry:\n    open({trace!r}, 'w')\nexcept OSError:\n    pass\n\n\n"
        "@pytest.fixture\ndef where():\n    return {where!r}\n"
    )
    repository.mkdir()
    (repository / "plug.py").write_text(source.format(trace=str(trace), where="installed"))
    base = {
        "plug.py": source.format(trace=str(trace), where="wrong"),
        "test_m.py": "def test_m(where):\n    assert where == 'copy'\n",
    }
    right = {"plug.py": source.format(trace=str(trace), where="copy")}
    baseline, report = verdict_over(base, right, test_command=f"{venv}/bin/python -m pytest")
    assert baseline.target == ["test_m.py::test_m"]
    assert passes(report, baseline), "the candidate's plugin was tested"
    assert not trace.exists(), "no line of it ran outside"
