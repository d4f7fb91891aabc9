"""Let what was installed to be edited come from the copy: map the folder's paths onto it.

Source: setuptools' `__editable__` finders keep a mapping in their module, `editables` (hatch, pdm,
flit) and scikit-build-core in their finder; path files name folders; flit may link a package.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any

_MAX_DEPTH = 4
_INSTALLED = ("purelib", "platlib", "stdlib", "platstdlib")


def map_onto(copy: str, origin: str, more: list[str]) -> None:
    """Change this process's import system, and `PYTHONPATH` for the ones that it starts.

    Args:
        copy: The clean copy.
        origin: Folder that it is a copy of; empty for none.
        more: Folders below the copy that the caller's own `PYTHONPATH` named.
    """
    mapping = _Mapping(origin, copy)
    before = list(sys.path)
    sys.path[:] = [mapping.path(path) for path in before]
    moved = [new for old, new in zip(before, sys.path, strict=True) if new != old]
    if origin:
        for holder in _holders():
            mapping.change(holder)
        moved += [*mapping.parents, *_linked(mapping)]
    paths = [path for path in dict.fromkeys([*more, *moved]) if os.path.isdir(path)]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def installed_places() -> set[str]:
    """Return the folders that packages are installed in."""
    return {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}


class _Mapping:
    def __init__(self, origin: str, copy: str) -> None:
        self._origin, self._copy = origin.rstrip("/"), copy.rstrip("/")
        places = [sys.prefix, sys.exec_prefix, *(sysconfig.get_path(name) for name in _INSTALLED)]
        self._kept = tuple(f"{place}/" for place in places if place.startswith(f"{self._origin}/"))
        """Where packages are installed, if the interpreter lies in the folder."""
        self.parents: list[str] = []
        """Folders of packages and modules that a dictionary names."""

    def path(self, path: str) -> str:
        """Return a path as it is in the copy; another path as it is."""
        is_below = path == self._origin or path.startswith(f"{self._origin}/")
        if not self._origin or not is_below or f"{path}/".startswith(self._kept):
            return path
        return self._copy + path[len(self._origin) :]

    def change(self, content: Any, depth: int = 0) -> Any:
        """Return a value with every path in it mapped; dictionaries and lists are changed."""
        if depth > _MAX_DEPTH:
            return content
        match content:
            case str():
                return self.path(content)
            case PurePath():
                return type(content)(self.path(str(content)))
            case dict():
                for key, value in list(content.items()):
                    content[key] = new = self.change(value, depth + 1)
                    named = isinstance(value, str) and new != value and os.path.basename(new)
                    if named and named in {key, f"{key}.py"}:
                        self.parents.append(os.path.dirname(new))
            case list():
                content[:] = [self.change(each, depth + 1) for each in content]
            case tuple() if type(content) is tuple:
                return tuple(self.change(each, depth + 1) for each in content)
        return content


def _holders() -> Iterator[Any]:
    """Return what the finders know, each as a dictionary or a list that can be changed."""
    for finder in sys.meta_path:
        kind = finder if isinstance(finder, type) else type(finder)
        if kind.__module__.startswith(("_frozen_importlib", "zipimport", "_pytest", "_nemoflows")):
            continue
        for owner in (kind, finder):
            for name, value in list(vars(owner).items() if hasattr(owner, "__dict__") else ()):
                if isinstance(value, dict | list) and not name.startswith("__"):
                    yield value
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__") and isinstance(module, types.ModuleType):
            yield from (v for v in vars(module).values() if isinstance(v, dict | list))


def _linked(mapping: _Mapping) -> Iterator[str]:
    """Return the folders of packages that are linked among the installed ones."""
    for place in site.getsitepackages():
        with suppress(OSError):
            for entry in os.scandir(place):
                if entry.is_symlink():
                    target = os.path.join(place, os.readlink(entry.path))
                    new = mapping.path(target)
                    if new != target and os.path.basename(new) == entry.name:
                        yield os.path.dirname(new)
