"""What watches a run of pytest from inside: results, canaries, lines."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import signal
import sys
import types
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from _pytest.assertion.rewrite import rewrite_asserts

from .origins import installed_places
from .watch import Watch

TEXT_CHARACTERS = 4000
"""Kept of a failure's text: its end says what was wrong, its beginning where."""
CANARIES = (
    "    left, right = 0, 1\n    assert left == right",
    "    import unittest\n    unittest.TestCase().assertEqual(0, 1)",
    "    import pytest\n    with pytest.raises(ZeroDivisionError):\n        pass",
)
"""One body per way in which a test says that something is wrong."""
OUTPUTS = (
    "basetemp", "log_file", "xmlpath", "htmlpath", "report_log", "json_report_file",
    "allure_report_dir",
)  # fmt: skip
"""Options, and settings of the same name, by which pytest and its plugins are told where to write.

Source: pytest's own, and pytest-html, -reportlog and -json-report, allure-pytest.
"""


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


class Reporter:
    """Orders tests, adds canaries, and tells what came of each."""

    def __init__(self, options: dict[str, Any], report: Report, watch: Watch | None) -> None:
        self._options, self._report, self._watch = options, report, watch
        self._results: dict[str, dict[str, Any]] = {}
        self._canaries: set[str] = set()
        self._exit = os._exit

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a module that cannot be collected."""
        if report.failed:
            self._report.line(broken=report.nodeid, text=_trimmed(str(report.longrepr)))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Put the wanted tests first and the canaries last."""
        only, first = set(self._options.get("only") or ()), self._options.get("first") or []
        if only:
            ids = [(item, {item.nodeid, item.nodeid.partition("::")[0]}) for item in items]
            items[:] = [item for item, names in ids if names & only]
        place = {nodeid: n for n, nodeid in enumerate(first)}
        items.sort(key=lambda item: place.get(item.nodeid, len(place)))
        self._report.line(collected=[item.nodeid for item in items], plugins=_plugins(config))
        if self._options.get("canaries"):
            items += self._made_canaries(items)

    def _made_canaries(self, items: list[pytest.Item]) -> list[pytest.Item]:
        modules = {item.getparent(pytest.Module): None for item in items}
        made: list[pytest.Item] = []
        for module in modules:
            for n, body in enumerate(CANARIES if module else ()):
                name = f"test_{self._options['token'][:8]}_{n}"
                item = pytest.Function.from_parent(module, name=name, callobj=_test(body))
                self._canaries.add(item.nodeid)
                made.append(item)
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test to what is known of it; tell after the last."""
        result = self._results.setdefault(
            report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0, "text": ""}
        )
        result["seconds"] = round(result["seconds"] + report.duration, 4)
        outcome = _outcome(report)
        if outcome != "passed" and result["outcome"] == "passed":
            result["outcome"] = outcome
            result["text"] = "" if outcome == "skipped" else _trimmed(report.longreprtext)
        if report.when == "teardown":
            if report.nodeid in self._canaries:
                result |= {"canary": True, "text": ""}
            self._report.line(**result)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Tell of an error in pytest, or in one of its plugins."""
        self._report.line(internal=_trimmed(str(excrepr)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Tell of the end, and end: what follows in pytest is for a terminal, and slow."""
        if self._watch:
            self._watch.look_at_all()
        self._report.line(end=int(exitstatus))
        self._exit(int(exitstatus))


def _plugins(config: pytest.Config) -> list[str]:
    """Return what is loaded: a module by its name, another object by its class.

    So is a module of the copy that is imported in the place of an installed one or of Python's: it
    may be what the tests compare with.
    """
    copy, found = f"{config.rootpath}/", set()
    own = [path for path in sys.path if f"{path}/".startswith(copy)]
    hiding = _names(own) & (_names(installed_places()) | sys.stdlib_module_names)
    found |= {f"{name} in place of what is installed" for name in hiding}
    for name, plugin in config.pluginmanager.list_name_plugin():
        kind = plugin if isinstance(plugin, type) else type(plugin)
        if isinstance(plugin, types.ModuleType):
            found.add(name.removeprefix(copy))
        elif plugin is not None:
            found.add(f"{kind.__module__}.{kind.__qualname__}")
    return sorted(found)


def _names(folders: Iterable[str]) -> set[str]:
    return {module.name for module in pkgutil.iter_modules(folders)}


def _outcome(report: pytest.TestReport) -> str:
    if report.skipped:
        return "skipped"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return "passed"


class Outputs:
    """Gives a scratch place to what pytest's own options write."""

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Name other places before anybody opens them."""
        for name in OUTPUTS:
            if getattr(config.option, name, None) or _ini(config, name):
                setattr(config.option, name, f"{self._scratch}/.pytest-{name}")
        for name in ("stepwise", "stepwise_skip"):  # ends at the first failure
            setattr(config.option, name, False)


def _ini(config: pytest.Config, name: str) -> object:
    try:
        return config.getini(name)
    except (KeyError, ValueError):
        return None


class Clock:
    """Ends a test that takes too long, so that the others can still run.

    It goes while the test's own code runs, its fixtures' included, and never in what pytest does
    around it. Python code that catches everything, and native code, can hold out; the run's own
    limit ends them too.
    """

    def __init__(self, seconds: float, cpu_seconds: float) -> None:
        self._limits = {signal.ITIMER_REAL: seconds, signal.ITIMER_PROF: cpu_seconds or 0.0}
        self._left: dict[int, float] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """Begin a test's time with its fixtures."""
        self._left = dict(self._limits)
        return (yield from self._timed())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Go on with the test."""
        return (yield from self._timed())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """Go on with what cleans up after it."""
        return (yield from self._timed())

    def _timed(self) -> Generator[None, Any, Any]:
        numbers = (signal.SIGALRM, signal.SIGPROF)
        before = [signal.signal(number, self._ring) for number in numbers]
        for timer, limit in self._limits.items():
            if limit:
                signal.setitimer(timer, self._left[timer])
        try:
            return (yield)
        finally:
            for timer, limit in self._limits.items():
                if limit:  # what is left is short where it rang, so that a teardown ends too
                    self._left[timer] = max(signal.setitimer(timer, 0)[0], 0.1 * limit)
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _ring(self, number: int, _: Any) -> None:
        timer, unit = signal.ITIMER_REAL, "s"
        if number == signal.SIGPROF:
            timer, unit = signal.ITIMER_PROF, "s of CPU time"
        pytest.fail(f"the test took more than {self._limits[timer]:g} {unit}")


class Lines:
    """Tells which lines of the copy each test ran."""

    def __init__(self, copy: str, report: Report) -> None:
        self._copy, self._report = copy.rstrip("/") + "/", report
        self._lines: dict[str, set[int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Begin a test."""
        self._lines = {}
        sys.settrace(self._on_call)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """End a test."""
        sys.settrace(None)
        ran = {path: sorted(numbers) for path, numbers in self._lines.items()}
        self._report.line(ran=nodeid, lines=ran)

    def _on_call(self, frame: types.FrameType, _: str, __: Any) -> Callable[..., Any] | None:
        path = frame.f_code.co_filename
        if not path.startswith(self._copy):
            return None
        lines = self._lines.setdefault(path[len(self._copy) :], set())

        def on_line(frame: types.FrameType, event: str, _: Any) -> Callable[..., Any]:
            if event == "line":
                lines.add(frame.f_lineno)
            return on_line

        return on_line


def _test(body: str) -> Callable[[], None]:
    """Return a test made the way pytest makes those of a file: with its assertions rewritten."""
    source = f"def canary():\n{body}\n"
    tree = ast.parse(source)
    rewrite_asserts(tree, source.encode())
    names: dict[str, Any] = {}
    exec(compile(tree, "canary", "exec"), names)
    made: Callable[[], None] = names["canary"]
    return made


def _trimmed(text: str) -> str:
    if len(text) <= TEXT_CHARACTERS:
        return text
    half = TEXT_CHARACTERS // 2
    return f"{text[:half]}\n…\n{text[-half:]}"
