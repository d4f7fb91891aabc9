"""Namespaces: a file tree, processes, a network and IPC of the process's own.

Source: namespaces(7), pivot_root(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from . import capabilities
from .libc import call, libc, syscall

_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_ALL = _NEW_MOUNTS | _NEW_NAMES | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND = 1, 2, 4, 32, 4096
_PRIVATE, _RECURSIVE, _DETACH = 1 << 18, 16384, 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MAX_FILES = 65_536
"""That a run may leave. In memory: a file without a byte takes a kilobyte of the kernel's."""
_MAX_OPENED = 20_000
_CLOSED = {".git", ".venv", "venv", "node_modules"}
"""Folders of a user's own in which no test would write."""
TEMPORARY = ("/tmp", "/var/tmp")
_DEVICES = ("null", "zero", "full", "random", "urandom")


def unshare() -> None:
    """Leave the machine's namespaces; processes started from now on live in the new ones.

    Without privileges the process gets a user namespace too, in which it keeps its own id.

    Raises:
        OSError: The kernel, or whoever set it up, allows no namespaces.
    """
    if capabilities.may_mount():
        call(libc().unshare, _ALL)
        return
    uid, gid = os.geteuid(), os.getegid()
    call(libc().unshare, _ALL | _NEW_USERS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(text, "ascii")


def enter(
    root: str, *, readable: Iterable[str], layered: str, scratch: str, scratch_bytes: int, uid: int
) -> None:
    """Give this process a tree with nothing in it but the named paths, all read-only.

    Called by the first process of the new namespaces. What can be written lies in memory: the
    scratch folder, `/tmp` and `/var/tmp`, and a layer over one of the paths.

    Args:
        root: An empty folder to build the tree in.
        readable: Paths that are seen where they are.
        layered: The one of them that can be written as far as modes allow, and stays as it is;
            empty for none.
        scratch: Where an empty folder is mounted.
        scratch_bytes: What all that is written may take.
        uid: Who owns the scratch folder.
    """
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "size=1m,nr_inodes=4096,mode=755")
    memory = f"{root}/.memory"
    _temporary(memory, scratch_bytes, "mode=755")
    for path in TEMPORARY:
        _bind_new(f"{memory}{path}", root + path, 0o1777)
    shown = list(readable)
    held = {f"{root}{top}" for path in [*shown, scratch] if (top := _below_temporary(path))}
    for top in held:  # else what lies below it could be moved away and another put in its place
        _bind_new(f"{memory}/held{top[len(root) :]}", top, 0o755)
    for path in shown:
        _show(path, root)
    for device in _DEVICES:
        _show(f"/dev/{device}", root, devices=True)
    if layered:
        _layer(layered, root, memory)
    _temporary(f"{root}/dev/shm", scratch_bytes, "mode=1777")
    _bind_new(f"{memory}/scratch", root + scratch, 0o700, uid)
    for top in held - {root + layered}:
        _mount("none", top, "", _REMOUNT | _BIND | _READ_ONLY | _NO_SETUID | _NO_DEVICES)
    call(libc().umount2, _bytes(memory), _DETACH)
    Path(memory).rmdir()
    Path(root, "proc").mkdir(exist_ok=True)
    with suppress(OSError):  # a container that masks its own /proc lets nobody mount another
        _mount("proc", f"{root}/proc", "proc", _NO_SETUID | _NO_DEVICES)
    old = Path(root, ".old")
    old.mkdir()
    syscall(_PIVOT_ROOT[os.uname().machine], _bytes(root), _bytes(str(old)))
    os.chdir("/")
    call(libc().umount2, b"/.old", _DETACH)
    Path("/.old").rmdir()
    _mount(
        "none",
        "/",
        "",
        _REMOUNT | _READ_ONLY | _NO_SETUID | _NO_DEVICES,
        "size=1m,nr_inodes=4096,mode=755",
    )
    _raise_loopback()


def _show(path: str, root: str, *, devices: bool = False) -> None:
    source, target = Path(path), Path(root + path)
    if not source.exists():
        return
    if source.is_symlink() and path.count("/") == 1:  # /bin → usr/bin
        target.symlink_to(source.readlink())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    elif not target.exists():
        target.touch()
    _mount(path, str(target), "", _BIND | _RECURSIVE)
    kept = os.statvfs(target).f_flag & 0xF if not devices else 0  # locked in a user namespace
    flags = _REMOUNT | _BIND | _NO_SETUID | (_READ_ONLY | kept if not devices else 0)
    with suppress(OSError):  # of a device: its file system's own flags are kept
        if not devices:
            _mount("none", str(target), "", flags)


def _bind_new(source: str, target: str, mode: int, uid: int = -1) -> None:
    for path in (source, target):
        Path(path).mkdir(parents=True, exist_ok=True)
    os.chmod(source, mode)
    os.chown(source, uid, uid)
    _mount(source, target, "", _BIND)


def _below_temporary(path: str) -> str:
    """Return the folder right below a temporary one that a path lies in, else nothing."""
    for top in TEMPORARY:
        if path.startswith(f"{top}/"):
            return f"{top}/{path[len(top) + 1 :].partition('/')[0]}"
    return ""


def _layer(path: str, root: str, memory: str) -> None:
    """Let a path be written: changes go to memory; where the kernel cannot, it stays as it is."""
    if set(path) & set(",:\\"):
        return
    upper, work = f"{memory}/upper", f"{memory}/work"
    for folder in (upper, work):
        os.mkdir(folder)
    os.chmod(upper, 0o1777)  # noqa: S103  (of the process's own)
    layers = f"lowerdir={path},upperdir={upper},workdir={work}"
    is_copy = os.stat(path).st_mode & stat.S_ISVTX
    with suppress(OSError):
        if is_copy or not capabilities.may_mount():
            _mount("overlay", root + path, "overlay", _NO_SETUID | _NO_DEVICES, layers)
        else:  # the user's own, whose modes are changed in memory without their content
            flags = f"{layers},metacopy=on"
            _mount("overlay", root + path, "overlay", _NO_SETUID | _NO_DEVICES, flags)
            _open(root + path)


def _open(path: str) -> None:
    for each, mode in islice(_modes(path), _MAX_OPENED):
        with suppress(OSError):
            if not os.path.islink(each):
                os.chmod(each, os.stat(each).st_mode | mode)


def _modes(path: str) -> Iterator[tuple[str, int]]:
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if name not in _CLOSED]
        yield folder, 0o777
        yield from ((f"{folder}/{name}", 0o666) for name in files)


def _temporary(path: str, size_bytes: int, options: str) -> None:
    Path(path).mkdir(parents=True, exist_ok=True)
    _mount(
        "tmpfs",
        path,
        "tmpfs",
        _NO_SETUID | _NO_DEVICES,
        f"size={size_bytes},nr_inodes={MAX_FILES},{options}",
    )


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    call(libc().mount, _bytes(source), _bytes(target), _bytes(kind), flags, _bytes(options))


def _bytes(text: str) -> ctypes.c_char_p:
    return ctypes.c_char_p(os.fsencode(text))


def _raise_loopback() -> None:
    """Let tests talk to servers of their own."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
