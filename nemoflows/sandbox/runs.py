"""Run tests over clean copies: fork servers with pytest loaded, one per core; each run is a fork.

A run gets a copy of the tree, a scratch folder that it can write, an environment of six variables,
and nothing else. Where it runs as a user of its own (the caller is root) it can add files to the
copy, and change those that are named; no other. The copy stays for the server's next run, which
writes no more than what differs. Servers and copies are gone when the sandbox is closed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemoflows.errors import BadInput, EndpointDown
from nemoflows.sandbox import inside
from nemoflows.sandbox.copies import Copy, folders_of
from nemoflows.sandbox.inside import clearing
from nemoflows.sandbox.levels import LEVELS, Level, Limits
from nemoflows.sandbox.trees import Tree

_START = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("_nemoflows_sandbox", {path!r})
sys.modules[spec.name] = package = module_from_spec(spec)
spec.loader.exec_module(package)
from _nemoflows_sandbox import forkserver
forkserver.main({parent!r})
"""
"""Loaded under a name of its own: the repository may be this library's, or have its packages."""
_ALLOWED = ("LANG", "TZ")
_TRUST_GIT = {
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
}  # fmt: skip
DEFAULT_LIMITS = Limits()
_GRACE_S = 30.0
"""Beyond a run's own limit, for the fork server to kill and to tell."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: a suite of tests, or a command (as the sandbox's own tests do)."""

    tree: Tree
    limits: Limits = DEFAULT_LIMITS
    suite: Mapping[str, Any] = field(default_factory=dict)
    """What `nemoflows.sandbox.inside.suite.run` takes."""
    argv: Sequence[str] = ()
    writable: frozenset[str] = frozenset()
    """Files of the tree that the run may change in its copy, where it may add some."""
    original: str = ""
    """A folder of the user's to run in instead of a copy of the tree; it is not changed, and what
    is written there lies in memory where the level is `full`, and is refused elsewhere."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a run."""

    why: str
    """`ended`; the limit that was passed: `time`, `memory`, `files`, `report`; or `abandoned`,
    where whoever asked was gone."""
    status: int | None
    """Exit code; below zero, the signal; None where the run was ended from outside."""
    output: str
    report: str
    seconds: float


class Sandbox:
    """Runs jobs at one level, one per fork server at a time; belongs to one event loop."""

    def __init__(self, level: Level, *, python: str = sys.executable, n: int = 0) -> None:
        """Take the level and the interpreter that has the repository's dependencies.

        Args:
            level: How runs are contained; must be available.
            python: Interpreter with pytest.
            n: Runs at once; 0 for one per core.
        """
        self.level, self.python = level, python
        self.n = n or len(os.sched_getaffinity(0))
        self._idle: asyncio.LifoQueue[_ForkServer] = asyncio.LifoQueue()
        self._made: list[_ForkServer] = []

    async def run(self, job: Job) -> Ended:
        """Run a job once a fork server is free.

        Raises:
            EndpointDown: The fork server ended, twice.
            BadInput: The interpreter cannot be started.
        """
        server = await self._free_server()
        try:
            try:
                return await server.run(job)
            except _ForkServerEnded:  # killed from outside, by want of memory perhaps: once more
                return await server.run(job)
        except _ForkServerEnded as error:
            raise EndpointDown(
                f"The sandbox's fork server ended twice during a run: {error}"
            ) from error
        except asyncio.CancelledError:
            server.kill()
            raise
        finally:
            self._idle.put_nowait(server)

    async def _free_server(self) -> _ForkServer:
        if self._idle.empty() and len(self._made) < self.n:
            self._made.append(_ForkServer(self.level, self.python))
            return self._made[-1]
        return await self._idle.get()

    async def aclose(self) -> None:
        """End the fork servers."""
        for server in self._made:
            await server.aclose()


async def available(python: str = sys.executable) -> tuple[Level, ...]:
    """Return the levels at which a run can begin on this machine, found out by running one."""
    found = []
    job = Job(Tree({"empty": b""}), argv=["/bin/sh", "-c", "exit 0"])
    for level in LEVELS:
        sandbox = Sandbox(level, python=python, n=1)
        try:
            if (await sandbox.run(job)).status == 0:
                found.append(level)
        finally:
            await sandbox.aclose()
    return tuple(found)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})


class _ForkServerEnded(Exception):
    """The fork server's output ended before its reply."""


class _ForkServer:
    """The process that runs jobs one by one, and the folders it is given."""

    def __init__(self, level: Level, python: str) -> None:
        self.level, self.python = level, python
        self._process: asyncio.subprocess.Process | None = None
        self._folder, self._uid = Path(), -1
        self._copy = Copy(Path())
        self._folders: list[Path] = []
        self._ending: list[asyncio.subprocess.Process] = []

    async def run(self, job: Job) -> Ended:
        """Run a job in the fork server's folder, where the copy stays for the next one.

        Raises:
            BadInput: The folder takes no copy of the tree.
        """
        process = await self._started()
        folder, uid = self._folder, self._uid
        try:
            await asyncio.to_thread(_lay_out, folder, self._copy, job, uid, self.level)
        except OSError as error:
            self.kill()
            n = len(job.tree.files)
            if error.errno not in _FULL:
                raise BadInput(
                    f"The temporary folder takes no copy of the repository's {n:,} files: {error}. "
                    "Test runs that were finished are recorded."
                ) from error
            raise no_room(f"a copy of {n:,} files", str(error)) from error
        request = _request(job, folder, self.level, uid, self.python)
        return await self._ask(process, request, job.limits.seconds + _GRACE_S)

    async def _ask(
        self, process: asyncio.subprocess.Process, request: object, limit_s: float
    ) -> Ended:
        if process.stdin is None or process.stdout is None:
            raise _ForkServerEnded("it has no pipes")
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), limit_s)
        except (TimeoutError, ConnectionError) as error:
            self.kill()
            raise _ForkServerEnded(type(error).__name__) from error
        if not line:
            self.kill()
            raise _ForkServerEnded("its output broke off")
        return Ended(**json.loads(line))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        code = _START.format(path=inside.__file__, parent=_temporary_folder())
        try:
            process = await asyncio.create_subprocess_exec(
                self.python, "-s", "-P", "-c", code,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/", start_new_session=True, limit=1 << 30,
            )  # fmt: skip
            ready = await process.stdout.readline() if process.stdout else b""
        except OSError as error:
            raise _no_interpreter(self.python, str(error.strerror)) from error
        if not ready:
            raise _no_interpreter(self.python, "it ended at once; it must be Python 3.11 or newer")
        told = json.loads(ready)
        if "refused" in told:
            await process.wait()
            raise no_room("a folder for test runs", told["refused"])
        self._folder, self._uid = Path(told["folder"]), told["uid"]
        self._folders.append(self._folder)
        self._copy = Copy(self._folder / "copy")
        self._process = process
        return process

    def kill(self) -> None:
        """End the fork server without waiting; what it runs ends with its input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._ending.append(self._process)
            self._process = None

    async def aclose(self) -> None:
        """End the fork server and wait for it."""
        self.kill()
        for process in self._ending:
            await process.wait()
        self._ending.clear()
        for folder in self._folders:  # of a server that was killed, or a copy cut off
            if folder.exists():
                await asyncio.to_thread(clearing.remove, str(folder))
        self._folders.clear()


def _no_interpreter(python: str, why: str) -> BadInput:
    return BadInput(
        f"The interpreter {python!r} of test_command cannot run tests: {why}. Name one that has "
        "pytest and what the repository needs. Nothing was run."
    )


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise no_room("anything", str(error)) from error


def no_room(what: str, why: str) -> BadInput:
    """Return the error of a temporary folder that takes no more."""
    return BadInput(
        f"The temporary folder has no room for {what}: {why}. Free it, or set TMPDIR to one with "
        "room. Test runs that were finished are recorded."
    )


def _lay_out(folder: Path, copy: Copy, job: Job, uid: int, level: Level) -> None:
    """Make a run's folders: the copy to read, the scratch to write, the root for `full`."""
    for name in ("copy", "scratch", "root"):
        (folder / name).mkdir(exist_ok=True)
    if not job.original:
        writable = job.writable if uid >= 0 else frozenset[str]()
        copy.show(job.tree, writable=writable, read_only=uid < 0 and level == "weak")
    if uid < 0:
        return
    if not job.original:
        _open_folders(folder / "copy", job.tree)
    os.chown(folder / "scratch", uid, uid)
    os.chown(folder, -1, uid)
    folder.chmod(0o710)  # the run's user may pass, another run's may not


def _open_folders(copy: Path, tree: Tree) -> None:
    """Let a run of another user's add files to the copy, and change only what it added.

    Compiled tests are the exception: a forged one would be run in a test's place.
    """
    with_sources = {path.rpartition("/")[0] for path in tree.files if path.endswith(".py")}
    for parent in ("", *folders_of(tree.files)):
        # A tracked one holds compiled files already, and takes no others.
        (copy / parent).chmod(0o555 if parent.endswith("__pycache__") else 0o1777)
    for parent in with_sources:
        (copy / parent / "__pycache__").mkdir(mode=0o555, exist_ok=True)


def _request(job: Job, folder: Path, level: Level, uid: int, python: str) -> dict[str, Any]:
    scratch = str(folder / "scratch")
    kept = {name: os.environ[name] for name in _ALLOWED if name in os.environ}
    if job.original or ".git/HEAD" in job.tree.files:  # which belongs to another user
        kept |= _TRUST_GIT
    environment = {
        "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": scratch,
        "TMPDIR": scratch,
        "USER": "nobody",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {
        "level": level,
        "folder": str(folder),
        "copy": job.original or str(folder / "copy"),
        "is_original": bool(job.original),
        "scratch": scratch,
        "seconds": job.limits.seconds,
        "memory_bytes": job.limits.memory_mib << 20,
        "processes": job.limits.processes,
        "file_bytes": job.limits.file_mib << 20,
        "uid": uid,
        "environment": environment | kept,
        "suite": dict(job.suite),
        "argv": list(job.argv),
    }
