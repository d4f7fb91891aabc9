"""What the tests of the change flow share: a repository with a bug, edits, and the flow itself."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from nemoflows.coding.examine import examine
from nemoflows.coding.mutation.search import judge
from nemoflows.coding.test_runs import TestRuns
from nemoflows.coding.types import Baseline, CodingTask, Edit, Patch, Repository, TestReport
from nemoflows.sandbox.levels import Limits
from nemoflows.sandbox.trees import Tree
from tests.support import ROOT

T = TypeVar("T")
LENDING = ROOT / "examples" / "lending"
ISSUE = (LENDING / "ISSUE.md").read_text("utf-8")
FILE, LINE = "lending/loans.py", "    return max(fine, MAX_FINE_CENTS)"
RIGHT = Edit(path=FILE, search=LINE, replace="    return min(fine, MAX_FINE_CENTS)")
HALF = Edit(path=FILE, search=LINE, replace="    return fine")
"""Right but for the upper limit."""
WRONG = Edit(path=FILE, search=LINE, replace="    return 7")
LIMITS = Limits(seconds=30, test_seconds=5, memory_mib=1024, processes=24, file_mib=8)


def lending(folder: Path) -> Path:
    """Return a copy of the example repository."""
    shutil.copytree(LENDING, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def reply(*edits: Edit, why: str = "The limit was the wrong way round.") -> str:
    """Return what a model would answer."""
    return json.dumps({"why": why, "edits": [edit.model_dump() for edit in edits]})


def task_of(tree: Tree, **more: object) -> CodingTask:
    """Return a task over a tree that is kept nowhere."""
    repository = Repository(uri="", name="x", tree=tree.hash, n_files=len(tree.files))
    fields: dict[str, object] = {"repository": repository, "issue": "x", "limits": LIMITS}
    return CodingTask.model_validate(fields | more)


def with_runs(root: Path | str, work: Callable[[TestRuns], Awaitable[T]]) -> T:
    """Do work with test runs that end with it."""

    async def go() -> T:
        runs = TestRuns(str(root))
        try:
            return await work(runs)
        finally:
            await runs.aclose()

    return asyncio.run(go())


def verdict_over(
    base: dict[str, str], candidate: dict[str, str], root: Path | str = "", **more: object
) -> tuple[Baseline, TestReport]:
    """Return the baseline of a tree and the verdict over a changed one."""
    before = Tree({path: text.encode() for path, text in base.items()})
    after = Tree({path: text.encode() for path, text in (base | candidate).items()})

    async def work(runs: TestRuns) -> tuple[Baseline, TestReport]:
        baseline = await examine(task_of(before, **more), before, runs)
        return baseline, await judge(baseline, before, after, runs)

    return with_runs(root, work)


def applies(patch: Patch, repository: Path) -> None:
    """Apply a patch with git, as a person would."""
    import subprocess

    done = subprocess.run(
        ["git", "apply", "--verbose", "-"], input=patch.diff.encode(), cwd=repository,
        capture_output=True, check=False, env={"GIT_CEILING_DIRECTORIES": str(repository.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def paths_of(edits: Iterable[Edit]) -> set[str]:
    """Return the files that edits touch."""
    return {edit.path for edit in edits}
