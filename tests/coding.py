"""What the tests of the change flow share: a repository with a bug, edits, and the flow itself."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from nemoflows.coding.runs import TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import (
    Baseline,
    CodingTask,
    Edit,
    Effort,
    Patch,
    Repository,
    TestReport,
)
from nemoflows.coding.verdict import judge
from nemoflows.sandbox.levels import Limits
from nemoflows.sandbox.trees import Tree
from nemoflows.types import Policy
from tests.loopback import ModelServer, data_parts
from tests.support import ROOT

T = TypeVar("T")
LENDING = ROOT / "examples" / "lending"
ISSUE = (LENDING / "ISSUE.md").read_text("utf-8")
FILE, LINE = "lending/loans.py", "    return max(fine, MAX_FINE_CENTS)"
RIGHT = Edit(path=FILE, search=LINE, replace="    return min(fine, MAX_FINE_CENTS)")
HALF = Edit(path=FILE, search=LINE, replace="    return fine")
"""Right but for the upper limit."""
WRONG = Edit(path=FILE, search=LINE, replace="    return 7")
USD_PER_CALL = 150e-6
"""At a dollar a million tokens: 120 in, 30 out."""
Script = Callable[[str, dict[str, Any], int], str]
"""Purpose, request, how many of that purpose and model came before."""
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
        baseline = await baseline_of(task_of(before, **more), before, runs)
        return baseline, await judge(baseline, before, after, runs)

    return with_runs(root, work)


def interpreter(venv: Path) -> Path:
    """Make an interpreter with pytest and nothing else; return where packages are installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    [places] = venv.glob("lib/python*/site-packages")
    ours = Path(sysconfig.get_path("purelib"))
    for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for found in (ours / name, *ours.glob(f"{name}-*.dist-info")):
            shutil.copytree(found, places / found.name)
    shutil.copy(ours / "py.py", places)
    return places


def committed(folder: Path, files: dict[str, str], ignored: str = "") -> Path:
    """Make a git repository with one commit of these files."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / ".gitignore").write_text(ignored)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"], ["tag", "v1.4"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)
    return folder


def applies(patch: Patch, repository: Path) -> None:
    """Apply a patch with git, as a person would."""
    done = subprocess.run(
        ["git", "apply", "--verbose", "-"], input=patch.diff.encode(), cwd=repository,
        capture_output=True, check=False, env={"GIT_CEILING_DIRECTORIES": str(repository.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def paths_of(edits: Iterable[Edit]) -> set[str]:
    """Return the files that edits touch."""
    return {edit.path for edit in edits}


class Providers:
    """Two models on one server, each scripted, every call counted."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def play(self, **scripts: Script) -> None:
        """Answer by model: `small` and `large`."""

        def script(purpose: str, body: dict[str, Any]) -> str:
            place = (body["model"], purpose)
            with self._lock:
                n = self.counts.get(place, 0)
                self.counts[place] = n + 1
            return scripts[body["model"]](purpose, body, n)

        self.server.script = script

    @property
    def n_calls(self) -> int:
        return sum(self.counts.values())


def policy(**more: Any) -> Policy:
    """Return both scripted models as tiers."""
    return Policy.model_validate({"efficient": "local:small", "frontier": "local:large"} | more)


def fix(repo: Path, how: Policy | None = None, **effort: int) -> Patch:
    """Run the workflow over the example's issue, and return its patch."""
    from workflows.coding import fix_issue

    searches = 300 if how is not None and how.efficient.is_builtin else 0
    given = {"candidates": 3, "repairs": 2, "search_runs": searches} | effort
    tried = Effort.model_validate(given)
    fixed = fix_issue(repo=str(repo), issue=ISSUE, policy=how or policy(), effort=tried)
    found: Patch = fixed.patch
    return found


def proposes(*edits: Edit | str) -> Script:
    """Answer proposals in turn, the last one again and again."""

    def script(purpose: str, _: dict[str, Any], n: int) -> str:
        if purpose not in {"propose", "repair"}:
            return ""
        edit = edits[min(n, len(edits) - 1)]
        return edit if isinstance(edit, str) else reply(edit)

    return script


def current(body: dict[str, Any]) -> str:
    """Return the line at fault as the request shows it."""
    shown = "\n".join(text for kind, _, text in data_parts(body) if kind == "file")
    line = r"^\d+\| (    return (?:\d+|max\(fine, MAX_FINE_CENTS\)))$"
    found = re.search(line, shown, re.MULTILINE)
    assert found is not None
    return found[1]
