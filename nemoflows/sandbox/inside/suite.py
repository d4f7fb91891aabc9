"""Run pytest in this process and report each test as a line of JSON, signed with the run's token.

Against a candidate that cheats there are three watches. *Canaries*: each module gets tests that
must fail, one per way of failing; a runner that was patched to pass everything passes them too.
*Identity*: functions of pytest, unittest, pluggy and builtins are the same after the run as before
it, and so is the code of each test. *The end*: a run whose last line is missing did not end,
whatever its exit code.

Not covered: the candidate's code runs in this very process. Code that reads this module's memory
can find the token and write lines of its own. What no watch looks at can be replaced: the import
of modules that are collected later, the assertions of other libraries (by a patch, or by a new
module of their name), fixtures and helpers of tests, the canaries' answers to whoever tells them
from tests. An object that is equal to everything satisfies any comparison; code can know the
expected values. A candidate may change what tests read or import where that is neither theirs by
name (`nemoflows.coding.edits`) nor a file that tests were collected from, and the examples in the
documentation of a source. All this is for the review.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from . import origins

NO_PYTEST = 97
"""Exit code of a run whose interpreter has no pytest."""
N_CANARIES = 3
"""Per module: one for each way in which a test says that something is wrong."""
_WATCHED = ("_pytest", "pytest", "pluggy", "unittest", "builtins")
_LENIENT = {"xdist": ["-n0"], "pytest_cov": ["--no-cov"], "pytest_randomly": ["-p", "no:randomly"]}
"""Plugins that would start other processes, write beside the tests or change their order."""
_PYTESTS_OWN = {("_pytest.config.Config", "_getini_unknown_type")}
"""What pytest itself changes while it starts."""
Place = tuple[str, str]
Identities = dict[Place, tuple[int, int]]


class Report:
    """Writes lines; what it needs was bound before any code of the repository ran."""

    def __init__(self, fd: int, token: str) -> None:
        self._fd, self._token = fd, token
        self._write, self._dumps = os.write, json.dumps

    def line(self, **content: Any) -> None:
        """Write one line."""
        data = (self._dumps({"token": self._token, **content}) + "\n").encode()
        while data:
            data = data[self._write(self._fd, data) :]


def preload() -> None:
    """Load pytest and its plugins, so that every run is a fork away from its first test."""
    if importlib.util.find_spec("pytest") is None:
        return
    import _pytest

    names = [module.name for module in pkgutil.walk_packages(_pytest.__path__, "_pytest.")]
    named = [entry.module for entry in importlib.metadata.entry_points(group="pytest11")]
    names += [name for name in named if _is_installed(name)]
    for name in [*names, "unittest.mock", f"{__package__}.plugins"]:
        with suppress(Exception):  # a plugin that cannot be loaded is told of by the run itself
            importlib.import_module(name)


def _is_installed(module: str) -> bool:
    """Return whether a module lies where packages are installed.

    One that lies elsewhere may be the repository's own, installed to be edited: it runs in the
    sandbox alone, as the copy has it.
    """
    spec = importlib.util.find_spec(module.partition(".")[0])
    origin = str(spec.origin) if spec else ""
    return any(origin.startswith(f"{place}{os.sep}") for place in installed_places())


def installed_places() -> set[str]:
    """Return the folders that packages are installed in."""
    return {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}


def run(options: dict[str, Any], copy: str, report_fd: int) -> int:
    """Run the tests of the folder this process is in; does not return where they were run.

    Args:
        options: `arguments` of pytest; `token`; `first`, ids to run before the others; `only`, ids
            or modules to run alone; `stop`, whether to stop at the first failure; `canaries`,
            whether to add them; `test_seconds`, after which a test fails; `cpu_seconds`, of CPU
            time; `lines`, whether to report the lines of the copy that each test ran; `origin`, the
            folder that this is a copy of, and `paths` of modules below the copy.
        copy: The clean copy.
        report_fd: Where lines go.

    Returns:
        pytest's exit code where it could not begin, or `NO_PYTEST`.
    """
    if importlib.util.find_spec("pytest") is None:
        print(f"pytest is not installed for {sys.executable}")
        return NO_PYTEST
    import pytest

    from . import plugins

    paths = [f"{copy}/{path}" for path in options.get("paths") or ()]
    origins.map_onto(copy, str(options.get("origin") or ""), paths)
    sys.path[:0] = [path for path in (copy, f"{copy}/src") if os.path.isdir(path)]
    report = Report(report_fd, str(options["token"]))
    watchers: list[object] = [
        plugins.Reporter(options, report, _identities() if options.get("canaries") else {})
    ]
    if options.get("test_seconds"):
        cpu_seconds = float(options.get("cpu_seconds") or 0)
        watchers.append(plugins.Clock(float(options["test_seconds"]), cpu_seconds))
    if options.get("lines"):
        watchers.append(plugins.Lines(copy, report))
    scratch = os.environ["TMPDIR"]
    watchers.append(plugins.Outputs(scratch))
    fixed = [
        "--continue-on-collection-errors",
        "-o",
        f"cache_dir={scratch}/.pytest_cache",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    stop = ["-x"] if options.get("stop") else []
    arguments = [*options["arguments"], *_lenient(), *fixed, "--rootdir", copy, *stop]
    return int(pytest.main(arguments, plugins=watchers))


def _lenient() -> list[str]:
    found = (words for name, words in _LENIENT.items() if importlib.util.find_spec(name))
    return [word for words in found for word in words]


def changed(before: Identities) -> list[str]:
    """Return some of the watched functions that are no longer what they were."""
    now = _identities()
    return [".".join(place) for place, known in before.items() if now.get(place) != known][:8]


def _identities() -> Identities:
    """Return which functions stand where in the watched modules."""
    return {place: (id(found), id(getattr(found, "__code__", None))) for place, found in _watched()}


def _watched() -> Iterator[tuple[Place, object]]:
    kinds = (types.FunctionType, types.BuiltinFunctionType, type, property)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _WATCHED or module is None:
            continue
        for owner, content in _owners(name, module):
            for key, value in list(content.items()):
                if isinstance(value, kinds) and (owner, key) not in _PYTESTS_OWN:
                    yield (owner, key), value


def _owners(name: str, module: types.ModuleType) -> Iterator[tuple[str, dict[str, Any]]]:
    content = vars(builtins) if name == "builtins" else vars(module)
    yield name, content
    for key, value in list(content.items()):
        if isinstance(value, type) and value.__module__ == name and name != "builtins":
            yield f"{name}.{key}", dict(vars(value))
