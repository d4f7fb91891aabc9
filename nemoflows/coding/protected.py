"""Which files are never a candidate's: tests, what decides how they run, what tools start.

Names are compared as the least exact file system compares them: without case, in one spelling of
Unicode. Not covered: a plugin that is the repository's own source; the examples in a source.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from nemoflows.coding.types import Baseline, TestEdits
from nemoflows.sandbox.listing import folded

_TEST_NAME = re.compile(r"test_.*\.py|.*_test\.py|tests?\.py|conftest\.py|test.*\.txt")
_TEST_FOLDERS = {"test", "tests"}
_RUNNER_FILES = {
    "pytest.ini", "pytest.toml", "pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "tox.toml",
    "noxfile.py", "mypy.ini", "pylintrc", "pipfile", "poetry.toml", "uv.toml", "hatch.toml",
    "mise.toml", "lefthook.yml", "shell.nix", "flake.nix", "devenv.nix", "entry_points.txt",
    "pre-commit", "pre-push", "pre-merge-commit", "prepare-commit-msg", "commit-msg",
    "post-checkout", "post-commit", "post-merge", "post-rewrite",
}  # fmt: skip
_RUNNER_STEMS = {"conftest", "sitecustomize", "usercustomize"}
_RUNNER_ENDINGS = (
    ".pth", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib", ".egg", ".egg-link", ".egg-info",
    ".dist-info", ".code-workspace", ".sublime-project",
)  # fmt: skip
_RUNNER_FOLDERS = {"__pycache__", "node_modules", "site-packages", "dist-packages"}
_RUNNER_MODULES = {
    "_pytest", "pluggy", "py", "_nemoflows_sandbox", "iniconfig", "packaging", "pygments",
    "exceptiongroup", "tomli", "colorama", "attr", "attrs", "xdist", "execnet", "coverage",
    "hypothesis", "_hypothesis_pytestplugin", "anyio", "pexpect", "argcomplete", "typeguard",
    "pkg_resources", "setuptools", "typing_extensions",
} | {folded(name) for name in sys.stdlib_module_names}  # fmt: skip
"""What pytest and its usual plugins import, before or while tests run."""


@lru_cache(maxsize=1 << 16)
def is_test(path: str) -> bool:
    """Return whether a file holds tests, or what tests are made of."""
    *folders, name = folded_parts(path)
    return bool(_TEST_NAME.fullmatch(name)) or bool(_TEST_FOLDERS & set(folders))


@lru_cache(maxsize=1 << 16)
def runs_tests(path: str) -> bool:
    """Return whether a file decides how tests are run, or is one that tools start by themselves."""
    parts = folded_parts(path)
    return parts[-1] in _RUNNER_FILES or any(
        part.startswith(".")
        or part in _RUNNER_FOLDERS
        or part.endswith(_RUNNER_ENDINGS)
        or part.partition(".")[0] in _RUNNER_STEMS
        for part in parts
    )


def folded_parts(path: str) -> list[str]:
    """Return the parts of a path as they are compared."""
    return [folded(part) for part in path.split("/")]


def files_of(collected: Sequence[str]) -> frozenset[str]:
    """Return the files that tests were collected from, by the tests' ids.

    A file whose tests are examples in its own documentation is none: it is what they test.
    """
    return frozenset(test.partition("::")[0] for test in collected if not _is_example(test))


def _is_example(test: str) -> bool:
    """Return whether a test is a doctest, which is named by the dotted path of what it is about.

    In a file of text it is about the code, and a test as any other.
    """
    path, _, name = test.partition("::")
    if not path.endswith(".py"):
        return False
    return "." in name.partition("[")[0] or name == PurePosixPath(path).stem


class Protection(NamedTuple):
    """What is taken from the baseline, whatever a candidate wrote."""

    test_edits: TestEdits = "refuse"
    tests: frozenset[str] = frozenset()
    """Files that hold tests, whatever their names."""
    settings: frozenset[str] = frozenset()
    """Files that the command names as settings."""

    @classmethod
    def of(cls, baseline: Baseline) -> Self:
        """Return the protection of a task, as its first run of the tests shows it."""
        task = baseline.task
        words = shlex.split(task.test_command)
        named = [word for before, word in pairwise(words) if before == "-c"]
        named += [word.partition("=")[2] for word in words if word.startswith("--")]
        settings = frozenset(PurePosixPath(name).as_posix() for name in named if name)
        return cls(task.test_edits, files_of(baseline.report.collected), settings)

    def covers(self, path: str) -> bool:
        """Return whether a file is protected."""
        if runs_tests(path) or path in self.settings:
            return True
        return self.test_edits == "refuse" and (is_test(path) or path in self.tests)

    def hides(self, path: str, known: Collection[str]) -> bool:
        """Return whether a new file would be imported in place of what runs the tests.

        Python looks first in the root, in `src`, and in the folders of tests.
        """
        parts = folded_parts(path)
        above = [folded_parts(test)[:-1] for test in self.tests]
        for folder in ([], ["src"], *above):
            n = len(folder)
            top = parts[n].partition(".")[0] if parts[:n] == folder and len(parts) > n else ""
            if top in _RUNNER_MODULES or top.startswith("pytest"):
                own = "/".join(path.split("/")[: n + 1])
                return not any(each == own or each.startswith(f"{own}/") for each in known)
        return False


NO_TESTS_KNOWN = Protection()


def misspelled(path: str, known: Collection[str]) -> bool:
    """Return whether a path is a known one, or lies in a known folder, in another spelling."""
    spelled: dict[str, str] = {}
    for each in (*known, path):
        parts, compared = each.split("/"), folded_parts(each)
        for n in range(1, len(parts) + 1):
            whole = "/".join(parts[:n])
            if spelled.setdefault("/".join(compared[:n]), whole) != whole and each == path:
                return True
    return False
