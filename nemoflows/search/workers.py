"""Read files that may be dear in a process of its own, within bounds of time and memory.

A page of nested tags, a table that unpacks without end or a broken PDF costs that file alone: the
process that reads it ends, the file is skipped with the reason, and the next one gets another
process. What is cheap whatever it holds is read here, so that a small folder waits for none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nemoflows.errors import CorpusError
from nemoflows.search import fragments, readers
from nemoflows.search.fragments import Made

MAX_MEMORY_BYTES = 2 * 2**30
BASE_CPU_S, CPU_S_PER_MIB = 20, 4
"""Of one file. A plain text takes about .6 s a MiB, a PDF's page 2 to 20 ms."""
WALL_FACTOR = 20
"""How much longer than its CPU time a file may take on a busy machine."""

_MODULE = "nemoflows.search.workers"
_CHEAP_BYTES = {
    **dict.fromkeys((".pdf", ".docx", ".xlsx", ".pptx"), 0),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".svg", ".eml", ".parquet"), 64 * 2**10),
    **dict.fromkeys((".py", ".pyi", ".ipynb"), 256 * 2**10),
}
"""Up to here a file of that kind is read in this process; another one up to 1 MiB."""
_HEAD = struct.Struct(">II")
"""Lengths of the two parts of a message: JSON, then bytes."""


class Ended(CorpusError):
    """What reads a file ended over it or is not whole: another time it may be read."""


def is_dear(name: str, data: bytes) -> bool:
    """Tell whether a file may cost far more than its length says."""
    limit = _CHEAP_BYTES.get(readers.suffix_of(name), 2**20)
    return len(data) > limit or data.startswith(b"%PDF-")


class Workers:
    """Processes that read files, one each at a time; threads may share them."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the processes."""
        for worker in self._idle:
            worker.end()

    def make(self, name: str, data: bytes) -> Made:
        """Return what indexing a file yields.

        Raises:
            Ended: What reads it ended, or lacks a module.
            CorpusError: The file cannot be read as what its name says, or within the bounds.
        """
        if not is_dear(name, data):
            return _make(name, data)
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or _started()
        if worker is None:
            return _make(name, data)
        try:
            told, content = worker.ask(name, data)
        except BaseException:
            worker.end()
            raise
        with self._lock:
            self._idle.append(worker)
        if told["error"]:
            raise (CorpusError if told["lasting"] else Ended)(told["error"])
        return Made(content, told["n_documents"], told["n_passages"], told["notes"])


def _make(name: str, data: bytes) -> Made:
    try:
        return fragments.make(name, data)
    except ImportError as error:
        missing = error.name or error
        raise Ended(f"what reads it needs the module {missing}, which cannot be loaded") from error


def _started() -> _Worker | None:
    """Return a process that runs; None where none can be had."""
    try:
        worker = _Worker()
    except (OSError, ValueError, TypeError):  # no program, or no right to start it
        return None
    if worker.is_ready():
        return worker
    worker.end()
    return None


class _Worker:
    """One process; it gets no environment of ours, so that no key is where foreign files are."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
        kept = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        self._process = subprocess.Popen(  # noqa: S603 - this Python, this module
            [sys.executable, "-P", "-m", _MODULE],  # -P: no module of the current folder's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._in, self._out = self._process.stdin, self._process.stdout

    def is_ready(self) -> bool:
        """Wait until it runs; False where it ended before."""
        return _receive(self._out) is not None

    def ask(self, name: str, data: bytes) -> tuple[dict[str, Any], bytes]:
        """Return what came of one file.

        Raises:
            Ended: The process ended over it.
            CorpusError: The file takes too much CPU time.
        """
        limit_s = BASE_CPU_S + CPU_S_PER_MIB * len(data) // 2**20
        with suppress(OSError):
            _send(self._in, {"name": name, "limit_s": limit_s}, data)
        poll = select.poll()  # unlike `select.select`, it takes any descriptor
        poll.register(self._out, select.POLLIN)
        waited = poll.poll(1000 * WALL_FACTOR * limit_s)
        answer = _receive(self._out) if waited else None
        if answer is None:
            raise _ended(self._process, limit_s, waited=bool(waited))
        return answer

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._in, self._out):
            with suppress(OSError):
                pipe.close()
        self._process.wait()


def _ended(process: subprocess.Popen[bytes], limit_s: float, *, waited: bool) -> CorpusError:
    code = process.wait() if waited else 0
    if code == -signal.SIGPROF:
        return CorpusError(f"reading it takes more than {limit_s} s of CPU time")
    if not waited:
        return Ended(f"reading it takes more than {WALL_FACTOR * limit_s} s")
    return Ended(f"what reads it crashed (status {code}), perhaps for want of memory")


def _send(pipe: IO[bytes], told: dict[str, Any], content: bytes) -> None:
    head = json.dumps(told).encode()
    pipe.write(_HEAD.pack(len(head), len(content)) + head)
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message; None where the other end is gone."""
    lengths = pipe.read(_HEAD.size)
    if len(lengths) < _HEAD.size:
        return None
    n_head, n_content = _HEAD.unpack(lengths)
    head, content = pipe.read(n_head), pipe.read(n_content)
    return (json.loads(head), content) if len(content) == n_content else None


def _answer(name: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        made = _make(name, data)
    except CorpusError as error:
        return {"error": error.message, "lasting": not isinstance(error, Ended)}, b""
    except MemoryError:
        told = f"reading it takes more than {MAX_MEMORY_BYTES // 2**20:,} MiB of memory"
        return {"error": told, "lasting": True}, b""
    counts = {"n_documents": made.n_documents, "n_passages": made.n_passages}
    return {"error": "", "notes": made.notes, **counts}, made.content


def main() -> None:
    """Answer one file after the other until the pipe ends."""
    import resource

    # What a library prints must not stand among the answers.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _send(out, {}, b"")
        while request := _receive(sys.stdin.buffer):
            told, data = request
            signal.setitimer(signal.ITIMER_PROF, told["limit_s"])
            answer = _answer(told["name"], data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(out, *answer)


if __name__ == "__main__":
    main()
