"""What watches a run of pytest from inside: results, canaries, lines."""

from __future__ import annotations

import ast
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest.assertion.rewrite import rewrite_asserts

from .suite import Identities, Report, changed

TEXT_CHARACTERS = 4000
"""Kept of a failure's text: its end says what was wrong, its beginning where."""
CANARIES = (
    "    left, right = 0, 1\n    assert left == right",
    "    import unittest\n    unittest.TestCase().assertEqual(0, 1)",
    "    import pytest\n    with pytest.raises(ZeroDivisionError):\n        pass",
)
"""One body per way in which a test says that something is wrong."""


class Reporter:
    """Orders tests, adds canaries, and tells what came of each."""

    def __init__(self, options: dict[str, Any], report: Report, before: Identities) -> None:
        self._options, self._report, self._before = options, report, before
        self._results: dict[str, dict[str, Any]] = {}
        self._canaries: set[str] = set()
        self._codes: list[tuple[str, Any, Any]] = []
        self._exit, self._changed = os._exit, changed

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
            items[:] = [item for item in items if item.nodeid in only]
        place = {nodeid: n for n, nodeid in enumerate(first)}
        items.sort(key=lambda item: place.get(item.nodeid, len(place)))
        self._report.line(collected=[item.nodeid for item in items], plugins=_plugins(config))
        functions = [(item.nodeid, _function(item)) for item in items]
        self._codes = [(test, found, _code(found)) for test, found in functions]
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Tell of the end, and end: what follows in pytest is for a terminal, and slow."""
        rewritten = [test for test, found, code in self._codes if _code(found) is not code]
        changed = [*self._changed(self._before), *rewritten[:1]] if self._before else []
        self._report.line(end=int(exitstatus), changed=changed)
        self._exit(int(exitstatus))


def _plugins(config: pytest.Config) -> list[str]:
    """Return what is loaded: a module by its name, another object by its class."""
    copy, found = f"{config.rootpath}/", set()
    for name, plugin in config.pluginmanager.list_name_plugin():
        kind = plugin if isinstance(plugin, type) else type(plugin)
        if isinstance(plugin, types.ModuleType):
            found.add(name.removeprefix(copy))
        elif plugin is not None:
            found.add(f"{kind.__module__}.{kind.__qualname__}")
    return sorted(found)


def _function(item: pytest.Item) -> object:
    function = getattr(item, "obj", None)
    return getattr(function, "__func__", function)


def _code(function: object) -> object:
    return getattr(function, "__code__", None)


def _outcome(report: pytest.TestReport) -> str:
    if report.skipped:
        return "skipped"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return "passed"


class Clock:
    """Ends a test that takes too long, so that the others can still run.

    Python code that catches everything, and native code, can hold out; the run's own limit ends
    them too.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[Any]:
        """Set the clock around one test."""
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _ring(self, *_: Any) -> None:
        pytest.fail(f"the test took more than {self._seconds:g} s")


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
