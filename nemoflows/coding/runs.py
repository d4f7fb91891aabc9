"""What one run of the tests told, read from the lines of the sandbox and kept as a record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from nemoflows.coding.commands import Command, read_command
from nemoflows.coding.protected import is_test, runs_tests
from nemoflows.coding.types import CodingTask, TestResult
from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.sandbox import levels
from nemoflows.sandbox.inside.suite import NO_PYTEST
from nemoflows.sandbox.levels import Level
from nemoflows.sandbox.runs import Ended, Job, Sandbox, available
from nemoflows.sandbox.trees import Tree
from nemoflows.storage.opening import open_records
from nemoflows.types import Value

RECORD_VERSION = 3
OUTPUT_CHARACTERS = 4000
_KILLED = {-9, 128 + 9}
"""Exit codes of a process that SIGKILL ended; the second is told by the first of a namespace."""
_LINES = TypeAdapter(dict[str, list[int]])


class RunOptions(Value):
    """How the tests are to be run."""

    first: list[str] = Field(default_factory=list)
    """Ids to run before the others."""
    only: list[str] = Field(default_factory=list)
    """Ids to run alone; empty for all."""
    stop: bool = False
    """Whether the first failure ends the run."""
    canaries: bool = True
    lines: bool = False
    """Whether to tell which lines each test ran."""
    cpu_seconds: float = 0.0
    """CPU time after which a test fails, however busy the machine is; 0 for any."""
    attempt: int = 0
    """Another number runs again what is recorded: flaky tests show themselves so."""


class Ran(Value):
    """A finished test run, as it is recorded."""

    key: str
    level: Level = "weak"
    """How the run was contained."""
    why: str
    """`ended`, or the limit that was passed."""
    status: int | None
    output: str
    seconds: float
    complete: bool = False
    """Whether the run told its own end."""
    collected: list[str] = Field(default_factory=list)
    plugins: list[str] = Field(default_factory=list)
    """What pytest had loaded then, and what else of the runner was replaced or reached for."""
    results: list[TestResult] = Field(default_factory=list)
    broken: list[TestResult] = Field(default_factory=list)
    """Modules that could not be collected, by their path."""
    canaries: list[str] = Field(default_factory=list)
    """Outcomes of the tests that must fail."""
    internal: str = ""
    """An error in pytest itself, or in one of its plugins."""
    lines: dict[str, dict[str, list[int]]] = Field(default_factory=dict)
    """Test → file → the lines that it ran."""

    @property
    def was_killed(self) -> bool:
        """Return whether somebody from outside killed the run: for want of memory, perhaps."""
        return self.why == "abandoned" or (
            self.why == "ended" and not self.complete and self.status in _KILLED
        )


def key_of(task: CodingTask, tree: Tree, options: RunOptions) -> str:
    """Return the identity of a run: same tree, command, limits and options, same result."""
    whole = {
        "v": RECORD_VERSION,
        "tree": tree.hash,
        "command": task.test_command,
        "limits": task.limits.model_dump(),
        "wish": options.model_dump(),
        "salt": task.cache_salt,
    }
    if paths := _own_paths(task):
        whole["paths"] = paths
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _data_of(tree: Tree) -> frozenset[str]:
    """Return the files that tests may change: neither code, nor theirs, nor their settings."""
    code = (".py", ".pyi", ".so", ".pth", ".sh")
    return frozenset(
        path
        for path in tree.files
        if not path.endswith(code)
        and not is_test(path)
        and not runs_tests(path)
        and not path.startswith(".git/")
    )


def _own_paths(task: CodingTask) -> list[str]:
    """Return what the caller's `PYTHONPATH` names of the repository, relative to it."""
    origin, found = task.repository.origin, []
    for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if origin else ():
        for base in (os.getcwd(), origin):  # noqa: PTH109
            path = os.path.relpath(os.path.join(base, each), origin)  # noqa: PTH118
            if each and not path.startswith("..") and os.path.isdir(os.path.join(origin, path)):  # noqa: PTH112, PTH118
                found.append(path)
    return list(dict.fromkeys(found))


def read(ended: Ended, *, key: str, token: str, copy_python: str, level: Level = "weak") -> Ran:
    """Return what a run told; lines without the run's token are nobody's.

    Raises:
        BadInput: The interpreter has no pytest.
    """
    if ended.status == NO_PYTEST:
        raise BadInput(
            f"pytest is not installed for {copy_python}, which test_command names. Install it "
            "there, or name the interpreter of the repository's own environment. Nothing was run."
        )
    fields: dict[str, Any] = {"results": [], "broken": [], "canaries": [], "lines": {}}
    fields["plugins"] = []
    for line in ended.report.split("\n"):
        with suppress(
            ValidationError, KeyError
        ):  # of the token, but not of ours: it counts nothing
            _take(_parsed(line, token), fields)
    return Ran(
        key=key,
        level=level,
        why=ended.why,
        status=ended.status,
        output=ended.output[-OUTPUT_CHARACTERS:],
        seconds=ended.seconds,
        **fields,
    )


def _parsed(line: str, token: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
        if "\\ud" in line.lower():  # half a pair, perhaps, which is no text
            whole = json.dumps(found, ensure_ascii=False)
            found = json.loads(whole.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("token") == token else {}


def _take(told: Mapping[str, Any], fields: dict[str, Any]) -> None:
    match told:
        case {"collected": list(ids), "plugins": list(plugins)}:
            fields["collected"] = [str(each) for each in ids]
            fields["plugins"] += [str(each) for each in plugins]
        case {"plugins": list(plugins)}:
            fields["plugins"] += [str(each) for each in plugins]
        case {"broken": str(module), "text": str(text)}:
            fields["broken"].append(TestResult(test=module, outcome="error", text=text))
        case {"internal": str(text)}:
            fields["internal"] = text
        case {"canary": True, "outcome": str(outcome)}:
            fields["canaries"].append(outcome)
        case {"test": str(), "outcome": str()}:
            fields["results"].append(TestResult(**{k: told[k] for k in TestResult.model_fields}))
        case {"ran": str(test), "lines": dict(lines)}:
            fields["lines"][test] = _LINES.validate_python(lines)
        case {"end": int()}:
            fields["complete"] = True
        case _:
            pass


class TestRuns:
    """Runs and remembers; belongs to one event loop, holds a sandbox per interpreter."""

    __test__ = False

    def __init__(self, root: str, *, n: int = 0) -> None:
        """Take the journal's root, empty to remember nothing, and how many run at once."""
        self._store = open_records(root) if root else None
        self._n = n
        self._sandboxes: dict[str, Sandbox] = {}
        self._flights: dict[str, asyncio.Task[tuple[Ran, bool]]] = {}
        self._available: tuple[Level, ...] = ()
        self._opening = asyncio.Lock()
        self.n_run = 0
        """Runs that were not replayed."""

    async def level(self, task: CodingTask) -> Level:
        """Return the level at which a task's tests run here.

        Raises:
            BadInput: It is weaker than the task asks for.
        """
        async with self._opening:
            if not self._available:
                self._available = await available()
        return levels.at_least(task.min_sandbox, self._available)

    async def run(
        self, task: CodingTask, tree: Tree, options: RunOptions, *, again: bool = False
    ) -> tuple[Ran, bool]:
        """Return what a run told, and whether it was replayed.

        Args:
            again: Run what is recorded once more, and record that.

        Raises:
            BadInput: The command runs no pytest, or the machine contains too little.
        """
        key = key_of(task, tree, options)
        if key not in self._flights:
            flight = asyncio.create_task(self._recall_or_run(key, task, tree, options, again))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await self._flights[key]

    async def _recall_or_run(
        self, key: str, task: CodingTask, tree: Tree, options: RunOptions, again: bool
    ) -> tuple[Ran, bool]:
        if not again and (found := self._recall(key, task.min_sandbox)):
            return found, True
        done = await self._run(key, task, options, tree)
        self.n_run += 1
        if self._store and not done.was_killed:
            with suppress(NemoflowsError):  # a full disk, say: a record is worth no run
                self._store.write(_name(key), done.model_dump_json().encode())
        return done, False

    async def run_original(self, task: CodingTask, only: Sequence[str]) -> Ran | None:
        """Return what some tests say in the folder that the repository was read from.

        They run in the sandbox too, and change nothing there. It is not recorded: what git ignores
        may change it.

        Returns:
            None where the folder is not here, or the level is too weak for it.
        """
        origin = task.repository.origin
        if not only or not origin or await self.level(task) == "weak":
            return None
        if not await asyncio.to_thread(os.path.isdir, origin):
            return None
        options = RunOptions(only=list(only), canaries=False)
        return await self._run("", task, options, Tree({}), original=origin)

    async def _run(
        self, key: str, task: CodingTask, options: RunOptions, tree: Tree, original: str = ""
    ) -> Ran:
        command = read_command(task.test_command)
        sandbox = await self._sandbox(task, command)
        token = secrets.token_hex(16)
        suite = options.model_dump() | {
            "arguments": command.arguments,
            "token": token,
            "test_seconds": task.limits.test_seconds,
            "origin": "" if original else task.repository.origin,
            "paths": _own_paths(task),
        }
        job = Job(tree, task.limits, suite=suite, original=original, writable=_data_of(tree))
        ended = await sandbox.run(job)
        return read(ended, key=key, token=token, copy_python=command.python, level=sandbox.level)

    def _recall(self, key: str, wanted: Level) -> Ran | None:
        """Return a run that is recorded and was contained as well as is wanted."""
        data = self._store.read(_name(key)) if self._store else None
        with suppress(ValidationError):
            found = Ran.model_validate_json(data) if data else None
            strong = found and levels.LEVELS.index(found.level) >= levels.LEVELS.index(wanted)
            return found if strong else None
        return None

    async def _sandbox(self, task: CodingTask, command: Command) -> Sandbox:
        level = await self.level(task)
        if command.python not in self._sandboxes:
            self._sandboxes[command.python] = Sandbox(level, python=command.python, n=self._n)
        return self._sandboxes[command.python]

    async def aclose(self) -> None:
        """End the sandboxes."""
        for sandbox in self._sandboxes.values():
            await sandbox.aclose()


def _name(key: str) -> str:
    return f"tests/{key[:2]}/{key}.json"
