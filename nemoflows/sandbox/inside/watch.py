"""What watches the runner itself while tests run: a cheat that it sees stays told, come what may.

A cheat may undo what it did before the run ends, and may forge the lines that come after. So what
judges a test is looked at right before and right after it, and what was found is told at once.
"""

from __future__ import annotations

import gc
import os
import sys
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from .identities import AROUND_A_TEST, EVERYTHING, Identities

_REACHING = (
    (gc, "get_objects"), (gc, "get_referrers"), (gc, "get_referents"), (sys, "settrace"),
    (sys, "setprofile"),
)  # fmt: skip
"""How code finds objects that nobody gave it, and steers frames that are not its own."""
_TRUSTED = (sys.prefix, sys.base_prefix, os.path.dirname(__file__))
_KINDS = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


class Watch:
    """Tells what was replaced, added or reached for: what the baseline tells, too, is no cheat."""

    def __init__(self, report: Any, copy: str) -> None:
        """Look at the runner before any code of the repository runs.

        Args:
            report: Whose `line` tells.
            copy: The clean copy.
        """
        self._report, self._copy = report, f"{copy.rstrip('/')}/"
        self._whole = Identities(EVERYTHING)
        self._around = Identities(())
        self._told: set[str] = set()
        self._items: dict[pytest.Item, list[object]] = {}
        self._codes: list[tuple[object, object]] = []
        self._names: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._config: pytest.Config | None = None
        self._hooks: list[tuple[object, object]] = []
        self._own_user = os.geteuid() if os.stat(".").st_uid != os.geteuid() else None
        for owner, name in _REACHING:
            setattr(owner, name, self._telling(getattr(owner, name)))

    def _telling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        frame = sys._getframe  # noqa: SLF001

        def call(*values: Any, **named: Any) -> Any:
            if not (path := frame(1).f_code.co_filename).startswith(_TRUSTED):
                self._tell([f"{_named(function)} by {path}"])
            return function(*values, **named)

        return call

    def _tell(self, found: Iterable[str]) -> None:
        """Tell at once, in words that are the same in every copy."""
        if new := {each.replace(self._copy, "") for each in found} - self._told:
            self._told |= new
            self._report.line(plugins=sorted(new))

    def pytest_load_initial_conftests(self) -> None:
        """Look at what judges a test, before a conftest file can import anything."""
        self._around = Identities(AROUND_A_TEST, self._report, started=True)

    def pytest_plugin_registered(self, plugin: object) -> None:
        """Look where a plugin came from."""
        path = getattr(plugin, "__file__", None) or ""
        if os.path.basename(path) == "conftest.py" and self._own_user is not None:
            with suppress(OSError):
                if os.lstat(path).st_uid == self._own_user:
                    self._tell([f"{path}, which was added"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Tell what plugins and conftest files replaced while pytest started; look anew."""
        self._tell(self._around.changed())
        self._around = Identities(AROUND_A_TEST, self._report, started=True)

    def pytest_collectreport(self) -> None:
        """Look at what a module did when it was imported."""
        self._tell(self._around.changed())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep what is to run, and what the names of its modules stand for."""
        self._config = config
        self._hooks = _hooks(config)
        self._items = {item: _parts(item) for item in items}
        functions = [_function(item) for item in items]
        self._codes = [(f, getattr(f, "__code__", None)) for f in functions]
        for item in items:
            found = getattr(item, "module", None)
            if isinstance(found, types.ModuleType) and found.__name__ not in self._names:
                kept = {k: v for k, v in vars(found).items() if isinstance(v, _KINDS)}
                self._names[found.__name__] = vars(found), kept

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Look at what judges a test right before it and right after it."""
        if self._items.get(item, now := _parts(item)) != now:
            self._tell([f"another function in place of {item.nodeid}"])
        self._tell(self._replaced())
        try:
            return (yield)
        finally:
            self._tell(self._replaced())

    def _replaced(self) -> Iterator[str]:
        yield from self._around.changed()
        if (hooks := _hooks(self._config)) != self._hooks:
            yield from (f"{_named(each)} as a hook" for _, each in {*hooks} ^ {*self._hooks})

    def look_at_all(self) -> None:
        """Tell at the end what else was replaced: names of the tests' modules, functions' code."""
        for module, (content, kept) in self._names.items():
            self._tell(f"{module}.{k}" for k, v in kept.items() if content.get(k) is not v)
        codes = ((f, code) for f, code in self._codes if getattr(f, "__code__", None) is not code)
        self._tell([*self._whole.changed(), *(_named(function) for function, _ in codes)])


def _parts(item: pytest.Item) -> list[object]:
    """Return what decides what runs as a test."""
    function = _function(item)
    own = [key for key in vars(item) if callable(getattr(type(item), key, None))]
    return [type(item), id(function), id(getattr(function, "__code__", None)), *own]


def _function(item: pytest.Item) -> object:
    function = getattr(item, "obj", None)
    return getattr(function, "__func__", function)


def _named(function: object) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


def _hooks(config: Any) -> list[tuple[object, object]]:
    callers = vars(config.pluginmanager.hook).values()
    return [(i, i.function) for each in callers for i in getattr(each, "_hookimpls", ())]
