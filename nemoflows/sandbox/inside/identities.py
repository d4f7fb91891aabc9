"""Which functions stand where in what judges a run, so that one that was replaced is seen."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterator
from typing import Any

_WATCHED = ("_pytest", "pytest", "pluggy", "unittest", "builtins")
_PYTESTS_OWN = {("_pytest.config.Config", "_getini_unknown_type")}
"""What pytest itself changes while it starts."""
Place = tuple[str, str]
Identities = dict[Place, tuple[int, int]]


def changed(before: Identities) -> list[str]:
    """Return some of the watched functions that are no longer what they were."""
    now = found()
    return [".".join(place) for place, known in before.items() if now.get(place) != known][:8]


def found() -> Identities:
    """Return which functions stand where in the watched modules."""
    return {place: (id(value), id(getattr(value, "__code__", None))) for place, value in _watched()}


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
