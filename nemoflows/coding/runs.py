"""Test runs that are remembered: by tree, command, limits and wish, below the journal's root.

    tests/<ab>/<key>.json      a finished run; never changed

A run that was killed half way is run again, and one that was contained less than is now asked for;
one that was finished is not. Not covered: packages of
the interpreter that were changed since; another `fresh` runs again.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from pydantic import ValidationError

from nemoflows.changes import CodingTask, Level
from nemoflows.coding import ran as ran_module
from nemoflows.coding.ran import Command, Ran, Wish
from nemoflows.journal.stores import open_store
from nemoflows.sandbox import levels
from nemoflows.sandbox.runs import Job, Sandbox, available
from nemoflows.sandbox.trees import Tree


class TestRuns:
    """Runs and remembers; belongs to one event loop, holds a sandbox per interpreter."""

    __test__ = False

    def __init__(self, root: str, *, n: int = 0) -> None:
        """Take the journal's root, empty to remember nothing, and how many run at once."""
        self._store = open_store(root) if root else None
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

    async def run(self, task: CodingTask, tree: Tree, wish: Wish) -> tuple[Ran, bool]:
        """Return what a run told, and whether it was replayed.

        Raises:
            BadInput: The command runs no pytest, or the machine contains too little.
        """
        key = ran_module.key(
            tree=tree.hash, test_command=task.test_command, limits=task.limits, wish=wish,
            salt=task.fresh,
        )  # fmt: skip
        if key not in self._flights:
            flight = asyncio.create_task(self._recall_or_run(key, task, tree, wish))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await self._flights[key]

    async def _recall_or_run(
        self, key: str, task: CodingTask, tree: Tree, wish: Wish
    ) -> tuple[Ran, bool]:
        if found := self._recall(key, task.min_sandbox):
            return found, True
        command = ran_module.read_command(task.test_command)
        sandbox = await self._sandbox(task, command)
        token = secrets.token_hex(16)
        suite = wish.model_dump() | {
            "arguments": command.arguments,
            "token": token,
            "test_seconds": task.limits.test_seconds,
        }
        ended = await sandbox.run(Job(tree, task.limits, suite=suite))
        done = ran_module.read(
            ended, key=key, token=token, copy_python=command.python, level=sandbox.level
        )
        self.n_run += 1
        if self._store and not done.was_killed:
            with suppress(OSError):  # a full disk, say: a record is worth no run
                self._store.write(_name(key), done.model_dump_json().encode())
        return done, False

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
