"""Run pytest in this process and report each test as a line of JSON, signed with the run's token.

Against a candidate that cheats there are three watches. *Canaries*: each module gets tests that
must fail, one per way of failing; a runner that was patched to pass everything passes them too.
*Identity*: functions of pytest, unittest, pluggy and builtins are the same after the run as before
it, and what makes a result, hooks and the test itself right before and after each test; what is
not is told at once (`watch`), and is a cheat where the run before any change told nothing of it.
*The end*: a run whose last line is missing did not end, whatever its exit code.

Not covered: the candidate's code runs in this very process. Code that reads this module's memory
can find the token and write lines of its own (by `gc` it is told; by pytest's own objects, such as
its finder in `sys.meta_path`, it is not). What no watch looks at can be replaced: the import of
modules that are collected later, the assertions of other libraries (by a patch, or by a new
module of their name), fixtures and helpers of tests, the canaries' answers to whoever tells them
from tests. An object that is equal to everything satisfies any comparison; code can know the
expected values. A candidate may change what tests read or import where that is neither theirs by
name (`nemoflows.coding.edits`) nor a file that tests were collected from, and the examples in the
documentation of a source. All this is for the review.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
from contextlib import suppress
from typing import Any

from . import origins

NO_PYTEST = 97
"""Exit code of a run whose interpreter has no pytest."""
N_CANARIES = 3
"""Per module: one for each way in which a test says that something is wrong."""
_LENIENT = {"xdist": ["-n0"], "pytest_cov": ["--no-cov"], "pytest_randomly": ["-p", "no:randomly"]}
"""Plugins that would start other processes, write beside the tests or change their order."""


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
    return any(origin.startswith(f"{place}{os.sep}") for place in origins.installed_places())


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

    from . import plugins, watch

    paths = [f"{copy}/{path}" for path in options.get("paths") or ()]
    origins.map_onto(copy, str(options.get("origin") or ""), paths)
    sys.path[:0] = [path for path in (copy, f"{copy}/src") if os.path.isdir(path)]
    report = plugins.Report(report_fd, str(options["token"]))
    watching = watch.Watch(report, copy) if options.get("canaries") else None
    watchers: list[object] = [plugins.Reporter(options, report, watching)]
    watchers += [watching] if watching else []
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
