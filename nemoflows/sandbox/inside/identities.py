"""Which functions stand where in what judges a run, so that one that was replaced is seen."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter, getitem, is_
from typing import Any

_OWN = __name__.partition(".")[0]
EVERYTHING = ("_pytest", "pytest", "pluggy", "unittest", "builtins", _OWN)
AROUND_A_TEST = (
    "_pytest.runner", "_pytest.reports", "_pytest.python", "_pytest.unittest", "_pytest.nodes",
    "_pytest.skipping", "_pytest.outcomes", "_pytest.raises", "_pytest.recwarn", "pytest",
    "pluggy", "unittest.case", _OWN,
)  # fmt: skip
"""What makes a result of a test; Python's own functions are left to tests while one runs."""
_PYTESTS_OWN = "_pytest.config.Config._getini_unknown_type"
"""What pytest itself changes while it starts."""
_KINDS = (
    types.FunctionType, types.BuiltinFunctionType, type, property, classmethod, staticmethod,
)  # fmt: skip
_ALL, _MAP, _CODE = all, map, attrgetter("__code__")
"""Bound before anybody can replace them."""
Place = tuple[str, Mapping[str, Any], str, object]
"""A name to tell, and what stands where."""


class Identities:
    """What stood where once."""

    def __init__(self, modules: Sequence[str], *objects: object, started: bool = False) -> None:
        """Look at the functions of modules and of those below them, and at objects' attributes.

        Args:
            started: Whether pytest has made of its classes what it makes: what is new in one is
                told then, and the functions' code is not looked at, which takes longer.
        """
        found, codes = [*_modules(modules)], not started
        classes = _classes(found) if started else ()
        self._classes = [(*each, frozenset(each[1])) for each in classes]
        self._contents = [content for _, content, _ in self._classes]
        self._lengths = [*_MAP(len, self._contents)]
        self._places = [*_places(found, objects)]
        self._owners = [owner for _, owner, _, _ in self._places]
        self._keys = [key for _, _, key, _ in self._places]
        self._values = [value for *_, value in self._places]
        functions = _MAP(_inner, self._values) if codes else ()
        self._functions = [each for each in functions if hasattr(each, "__code__")]
        self._codes = [*_MAP(_CODE, self._functions)]

    def changed(self) -> list[str]:
        """Return the places where something else stands, is new, or has other code."""
        with suppress(KeyError):
            same = _ALL(_MAP(is_, _MAP(getitem, self._owners, self._keys), self._values))
            same = same and [*_MAP(len, self._contents)] == self._lengths
            if same and _ALL(_MAP(is_, _MAP(_CODE, self._functions), self._codes)):
                return []
        return [*self._differing()]

    def _differing(self) -> Iterator[str]:
        codes = zip(self._functions, self._codes, strict=True)
        recoded = {id(each) for each, code in codes if _CODE(each) is not code}
        for name, owner, key, value in self._places:
            if owner.get(key) is not value or id(_inner(value)) in recoded:
                yield name
        for name, content, known in self._classes:
            new = content.keys() - known
            yield from (f"{name}.{key}" for key in new if isinstance(content[key], _KINDS))


def _inner(value: object) -> object:
    return getattr(value, "__func__", None) or getattr(value, "fget", None) or value


def _modules(names: Sequence[str]) -> Iterator[tuple[str, types.ModuleType]]:
    below = tuple(f"{name}." for name in names)
    for name, module in list(sys.modules.items()):
        if module is not None and f"{name}.".startswith(below):
            yield name, module


def _classes(
    modules: Sequence[tuple[str, types.ModuleType]],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, module in modules:
        for key, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == name and name != "builtins":
                yield f"{name}.{key}", vars(value)


def _places(
    modules: Sequence[tuple[str, types.ModuleType]], objects: Sequence[object]
) -> Iterator[Place]:
    yield from ((name, sys.modules, name, module) for name, module in modules)
    owners = [*((name, vars(module)) for name, module in modules), *_classes(modules)]
    for owner, content in owners:
        for key, value in list(content.items()):
            if isinstance(value, _KINDS) and f"{owner}.{key}" != _PYTESTS_OWN:
                yield f"{owner}.{key}", content, key, value
    for each in objects:
        name, attributes = type(each).__qualname__, vars(each)
        yield from ((f"{name}.{key}", attributes, key, attributes[key]) for key in attributes)
