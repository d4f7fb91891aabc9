"""The fork server: starts one confined process at a time, watches it, and leaves none behind.

It runs in the repository's interpreter with pytest loaded. Every run is a fork of it, confined
before a line of the repository is run: a snapshot has no module that an interpreter runs at its
start. Requests and replies are JSON lines on its standard input and output; when its input ends, it
kills what runs, removes its folder and ends, so that a caller who was killed leaves nothing behind.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import stat
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import fields
from typing import Any, NoReturn

from . import clearing, confine, namespaces, suite, users
from .libc import call, libc

_SET_SUBREAPER = 36
_POLL_S = 0.05
_REPORT_FD = 3
HEAD_BYTES, TAIL_BYTES = 16_384, 49_152
"""What is kept of an output; the middle is dropped as it comes."""
REPORT_BYTES = 64 << 20
"""Most that a run may report: a suite of 100,000 tests stays below it."""


class Output:
    """What a process wrote: its beginning and its end."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self._head_bytes, self._tail_bytes = head_bytes, tail_bytes
        self._head, self._tail, self._n_bytes = bytearray(), b"", 0

    @property
    def overflows(self) -> bool:
        """Return whether there is more than is kept, where no end is kept."""
        return not self._tail_bytes and self._n_bytes > self._head_bytes

    def add(self, data: bytes) -> None:
        """Take what came."""
        self._n_bytes += len(data)
        room = self._head_bytes - len(self._head)
        self._head += data[: max(0, room)]
        rest = data[max(0, room) :]
        self._tail = (self._tail + rest)[-self._tail_bytes :] if self._tail_bytes else b""

    def text(self) -> str:
        """Return it, with a word about what is missing."""
        left_out = self._n_bytes - len(self._head) - len(self._tail)
        middle = f"\n… {left_out:,} bytes left out …\n".encode() if left_out else b""
        return (bytes(self._head) + middle + self._tail).decode("utf-8", "replace")


def main(parent: str) -> None:
    """Serve until the input ends.

    Args:
        parent: Where the folder is made that the runs are laid out in, one after the other.
    """
    os.umask(0o022)  # whatever the caller's: the run's user passes the folders made here
    call(libc().prctl, _SET_SUBREAPER, 1, 0, 0, 0)
    suite.preload()
    gc.collect()
    gc.freeze()
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        uid, _lease = users.lease() if os.geteuid() == 0 else (-1, None)
        clearing.sweep(parent)
        folder = tempfile.mkdtemp(prefix=clearing.PREFIX, dir=parent)
        held = clearing.hold(folder)
    except OSError as error:
        _tell(replies, {"refused": str(error)})
        return
    try:
        _tell(replies, {"folder": folder, "uid": uid})
        with open(requests, "rb") as lines:
            for line in lines:
                reply = _run(json.loads(line), requests)
                for name in os.listdir(folder):
                    if name != "copy":  # which the next run needs, as far as it is the same
                        clearing.remove(f"{folder}/{name}")
                _tell(replies, reply)
    finally:
        clearing.remove(folder)
        os.close(held)


def _tell(replies: int, content: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # whoever asked is gone; so is the input, then
        data = json.dumps(content).encode() + b"\n"
        while data:
            data = data[os.write(replies, data) :]


def _run(request: dict[str, Any], requests: int) -> dict[str, Any]:
    known = {field.name for field in fields(confine.Confinement)}
    bounds = confine.Confinement(**{key: value for key, value in request.items() if key in known})
    (output_end, output), (report_end, report) = os.pipe(), os.pipe()
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(request, bounds, output, report)
    os.close(output)
    os.close(report)
    told = {output_end: Output(HEAD_BYTES, TAIL_BYTES), report_end: Output(REPORT_BYTES, 0)}
    for fd in told:
        os.set_blocking(fd, False)
    reply = _Watch(bounds, child, told, requests).until_end()
    for fd in told:
        os.close(fd)
    seconds = round(time.monotonic() - started_s, 4)
    return reply | {
        "seconds": seconds,
        "output": told[output_end].text(),
        "report": told[report_end].text(),
    }


def _work(
    request: dict[str, Any], bounds: confine.Confinement, output: int, report: int
) -> NoReturn:
    """Be the confined process; never returns."""
    code = 70
    try:
        os.setsid()
        for fd in (1, 2):
            os.dup2(output, fd)
        os.dup2(report, _REPORT_FD, inheritable=False)
        os.closerange(_REPORT_FD + 1, 1 << 16)
        os.environ.clear()
        os.environ.update(request["environment"])
        confine.enter(bounds)
        if request.get("argv"):
            os.execve(request["argv"][0], request["argv"], dict(os.environ))  # noqa: S606  (a list)
        code = suite.run(request["suite"], bounds.copy, _REPORT_FD)
    except BaseException:  # noqa: BLE001  (whatever happened, this process must not go on)
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Watch:
    """Reads what a run writes, holds it to its limits, and ends all of it."""

    def __init__(
        self, bounds: confine.Confinement, child: int, pipes: dict[int, Output], requests: int
    ) -> None:
        self.bounds, self.child, self.requests = bounds, child, requests
        self.pipes = dict(pipes)
        self.alive = os.pidfd_open(child)
        self.status: int | None = None
        self.why = "ended"
        self._room = os.statvfs(bounds.folder)
        self._next_count_s = 0.0

    def until_end(self) -> dict[str, Any]:
        """Return how the run ended, once none of its processes is left."""
        deadline_s = time.monotonic() + self.bounds.seconds
        while self.status is None and self.why == "ended":
            self._read()
            self._collect()
            if self.status is None:
                self._judge(deadline_s)
        os.close(self.alive)
        self._end_all()
        for fd, output in self.pipes.items():
            while _take(fd, output):
                pass
        return {"why": self.why, "status": self.status}

    def _judge(self, deadline_s: float) -> None:
        if time.monotonic() > deadline_s:
            self.why = "time"
        elif any(output.overflows for output in self.pipes.values()):
            self.why = "report"
        elif _resident_bytes(descendants()) > self.bounds.memory_bytes:
            self.why = "memory"
        elif self.bounds.level != "full" and self._writes_much():
            self.why = "files"

    def _writes_much(self) -> bool:
        """Return whether the run wrote too much; counted where so much was, a tenth of the time."""
        room, most = os.statvfs(self.bounds.folder), (namespaces.MAX_FILES, self.bounds.file_bytes)
        n_bytes = (self._room.f_bfree - room.f_bfree) * room.f_frsize
        started_s = time.monotonic()
        many = self._room.f_ffree - room.f_ffree > most[0]
        if not (many or n_bytes > most[1]) or started_s < self._next_count_s:
            return False
        n_files, n_bytes = _written(self.bounds)
        self._next_count_s = time.monotonic() + 10 * (time.monotonic() - started_s)
        if many and n_files > most[0]:
            return True
        return n_bytes + _unlinked_bytes(descendants()) > most[1]

    def _read(self) -> None:
        """Wait for output, the end, or a moment; take at most one piece of each pipe."""
        ready = select.select([*self.pipes, self.alive, self.requests], [], [], _POLL_S)[0]
        if self.requests in ready:  # nothing is sent while a run goes on: whoever asked is gone
            self.why = "abandoned"
        for fd in [fd for fd in self.pipes if fd in ready]:
            if not _take(fd, self.pipes[fd]):
                del self.pipes[fd]

    def _collect(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self.child:
                    self.status = os.waitstatus_to_exitcode(found[1])

    def _end_all(self) -> None:
        """Kill every process of the run, and those that fled from their parents."""
        while left := descendants():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            _kill_all_of(self.bounds.uid)
            self._collect()
            time.sleep(0.001)


def _take(fd: int, output: Output) -> bool:
    """Read one piece; return whether there was any."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return False
    output.add(data)
    return bool(data)


def descendants() -> list[int]:
    """Return the processes below this one; those whose parents ended are its own children."""
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        pid = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
            for task in tasks:
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    children = [int(each) for each in file.read().split()]
                found += children
                queue += children
        except OSError:
            continue
    return found


def _resident_bytes(pids: list[int]) -> int:
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            columns = file.read().split()
            pages += int(columns[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _written(bounds: confine.Confinement) -> tuple[int, int]:
    """Count files, too many where a path is too long to look, and the bytes of those seen."""
    folders = [bounds.scratch, *([bounds.copy] if bounds.opens_copy else [])]
    n, blocks, is_deep = 0, 0, False
    while folders and n <= namespaces.MAX_FILES:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(entry.path)
                    if bounds.uid < 0 or found.st_uid == bounds.uid:
                        n += 1
                        blocks += 0 if stat.S_ISDIR(found.st_mode) else found.st_blocks
        except OSError as error:  # else it was removed, or closed, meanwhile
            is_deep |= error.errno == errno.ENAMETOOLONG
    return namespaces.MAX_FILES + 1 if is_deep else n, 512 * blocks


def _unlinked_bytes(pids: list[int]) -> int:
    """Count the bytes of files that have no name any more and that a process holds open."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    each = os.stat(f"/proc/{pid}/fd/{fd}")
                    if stat.S_ISREG(each.st_mode) and not each.st_nlink:
                        found[each.st_dev, each.st_ino] = each.st_blocks
    return 512 * sum(found.values())


def _kill_all_of(uid: int) -> None:
    """Kill every process of a user that is the run's alone, at once: nothing can fork away."""
    if uid < 0:
        return
    killer = os.fork()
    if killer == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(killer, 0)
