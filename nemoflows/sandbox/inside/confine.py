"""Confine a process that was just forked, step by step, before it runs anything untrusted."""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

from . import capabilities, landlock, namespaces, syscalls
from .libc import call, libc

_SET_PARENT_DEATH_SIGNAL, _SET_KEEP_CAPABILITIES, _SET_NO_NEW_PRIVILEGES = 1, 8, 38
_AMBIENT, _AMBIENT_RAISE = 47, 2
_READ_ALL = 2
"""CAP_DAC_READ_SEARCH."""
ETC = (
    "/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime",
    "/etc/timezone", "/etc/hosts", "/etc/mime.types", "/etc/ssl/certs", "/etc/os-release",
    "/etc/alternatives",
)  # fmt: skip
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", *ETC)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True)
class Confinement:
    """Where a process may be and what it may take."""

    level: str
    folder: str
    """This run's own: the tree is built in `root` below it."""
    copy: str
    """The clean copy; where the process starts."""
    scratch: str
    """The folder that can be written."""
    seconds: float
    memory_bytes: int
    processes: int
    file_bytes: int
    uid: int = -1
    """Whom a process of root's becomes; -1 where the fork server is not root."""
    is_original: bool = False
    """Whether `copy` is the user's own folder, of which nothing may change."""

    @property
    def opens_copy(self) -> bool:
        """Return whether files can be added to the copy; what is there belongs to another user.

        Where the process is the files' owner no mode could keep it from changing them.
        """
        return self.level == "full" if self.is_original else self.uid >= 0

    @property
    def readable(self) -> list[str]:
        """Return every path that can be read."""
        prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
        return list(dict.fromkeys([*SYSTEM, *prefixes, self.copy]))


def enter(bounds: Confinement) -> None:
    """Confine this process and all that it will start; at level `full` in a process of its own.

    Returns only in the process that is to do the work.

    Raises:
        OSError: A step failed; nothing untrusted may run then.
    """
    full = bounds.level == "full"
    privileged = capabilities.may_mount()
    if full:
        namespaces.unshare()
        _first_process()
        uid = bounds.uid if bounds.uid >= 0 else os.geteuid()
        namespaces.enter(
            f"{bounds.folder}/root", readable=bounds.readable, scratch=bounds.scratch,
            layered=bounds.copy if bounds.opens_copy else "",
            scratch_bytes=bounds.file_bytes, uid=uid,
        )  # fmt: skip
    _limit(bounds, own_users=full and not privileged)
    _become(
        bounds.uid,
        reads_all=bounds.level == "landlock" and not _is_reachable(bounds.readable),
    )
    call(libc().prctl, _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call(libc().prctl, _SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if full:
        capabilities.keep_only()
        _work_process()
    if bounds.level in {"full", "landlock"}:
        _lock(bounds, full=full)
    os.chdir(bounds.copy)


def _lock(bounds: Confinement, *, full: bool) -> None:
    version = landlock.abi()
    if version >= landlock.LEAST_ABI or not full:
        own = ["/dev/shm", *namespaces.TEMPORARY] if full else []
        copy = [bounds.copy] if bounds.opens_copy else []
        landlock.restrict(
            readable=[*bounds.readable, *(["/proc"] if full else [])],
            writable=[*DEVICES, bounds.scratch, *copy, *own],
            network=full,
        )
    syscalls.restrict(
        sockets=full,
        signals=full or version >= landlock.SIGNALS_ABI or bounds.uid >= 0,
        own_files_only=full or bounds.uid >= 0,
    )


def _first_process() -> None:
    """Go on as the first process of the new namespaces, while this one waits for its end."""
    child = os.fork()
    if child:
        _wait_and_end(child)
    call(libc().prctl, _SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _work_process() -> None:
    """Go on as a child, while the namespaces' first process collects what is left behind.

    The first process gets no signal that it does not handle, so it cannot be the one that works.
    """
    child = os.fork()
    if child:
        _wait_and_end(child)


def _wait_and_end(child: int) -> None:
    os.closerange(0, 1 << 16)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _limit(bounds: Confinement, *, own_users: bool) -> None:
    seconds = math.ceil(bounds.seconds) + 1
    threads = 0 if own_users or bounds.uid >= 0 else _threads_of(os.getuid())
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_DATA: bounds.memory_bytes,
        resource.RLIMIT_AS: 4 * bounds.memory_bytes,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_NPROC: bounds.processes + threads,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (least, least))


def _threads_of(uid: int) -> int:
    """Return how many threads a user has: the limit on processes counts them all."""
    found = 0
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                found += len(os.listdir(f"/proc/{name}/task"))
    return found


def _become(uid: int, *, reads_all: bool) -> None:
    """Become a user who is nobody; do nothing where the fork server is not root.

    Args:
        reads_all: Keep the capability to read whatever Landlock is about to leave open: the
            interpreter lies in a folder that only root may enter.
    """
    if uid < 0:
        return
    if reads_all:
        call(libc().prctl, _SET_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if reads_all:
        capabilities.keep_only(_READ_ALL)
        call(libc().prctl, _AMBIENT, _AMBIENT_RAISE, _READ_ALL, 0, 0)


def _is_reachable(paths: list[str]) -> bool:
    """Return whether anybody may enter the folders above and including the paths that exist."""
    folders = {
        folder for path in paths for folder in (path, *_parents(path)) if os.path.isdir(folder)
    }
    return all(os.stat(folder).st_mode & 1 for folder in folders)


def _parents(path: str) -> list[str]:
    found = []
    while path != "/":
        path = os.path.dirname(path)
        found.append(path)
    return found
