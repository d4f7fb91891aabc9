"""The seccomp filter: which system calls a confined process is refused.

A deny list, for a test suite needs hundreds of calls: what opens a socket, makes a namespace,
looks into another process, holds memory that no process maps and no limit counts, reaches the
kernel's other interfaces, or changes a file by its path where Landlock does not look.

Source: linux/filter.h, linux/seccomp.h; numbers from the kernel's tables for x86-64 and the
generic table that AArch64 uses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from .libc import call, libc

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16
_ARCHES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS and NEWCGROUP."""
_SOCK_STREAM = 1
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: a namespace has its own; AF_VSOCK leads to the host."""
_SOCKETS = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
}  # fmt: skip
_FORBIDDEN = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "pidfd_getfd": (438, 438), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
}  # fmt: skip
_BY_PATH = {
    "chmod": (90, None), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "removexattr": (197, 14), "lremovexattr": (198, 15),
}  # fmt: skip
_SIGNALS = {"kill": (62, 129), "tgkill": (234, 131)}
_OTHER_SIGNALS = {"tkill": (200, 130), "pidfd_send_signal": (424, 424)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SENDTO, _SENDMSG, _SENDMMSG, _SOCKETPAIR = (44, 206), (46, 211), (307, 269), (53, 199)
_PRLIMIT, _SETAFFINITY = (302, 261), (203, 122)


def supported() -> bool:
    """Return whether the filter is written for this machine's architecture."""
    return platform.machine() in _ARCHES


def restrict(*, sockets: bool, signals: bool, own_files_only: bool) -> None:
    """Install the filter on this process and all that it starts.

    Args:
        sockets: Leave sockets of the families that a network namespace separates.
        signals: Leave signals be: something else keeps them inside.
        own_files_only: Leave modes and times be: no file outside the copy belongs to this user.
            Otherwise such calls pretend to succeed and do nothing.

    Raises:
        OSError: The kernel takes no filter.
    """
    program = b"".join(_program(sockets=sockets, signals=signals, own_files_only=own_files_only))
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    buffer = ctypes.create_string_buffer(header, len(header))
    call(
        libc().prctl,
        _PR_SET_SECCOMP,
        _SECCOMP_MODE_FILTER,
        ctypes.c_void_p(ctypes.addressof(buffer)),
        0,
        0,
    )


def _program(*, sockets: bool, signals: bool, own_files_only: bool) -> list[bytes]:
    arch, column = _ARCHES[platform.machine()]
    rows = [_load(_ARCH), _op(_JUMP_EQ, arch, 1, 0), _return(_KILL), _load(_NR)]
    if column == 0:
        rows += [_op(_JUMP_GE, _X32, 0, 1), _return(_ERRNO | errno.ENOSYS)]
    refused = dict(_FORBIDDEN) | ({} if sockets else _SOCKETS) | ({} if signals else _OTHER_SIGNALS)
    for numbers in refused.values():
        rows += _on(numbers[column], _return(_ERRNO | errno.EPERM))
    rows += _on(_CLONE3[column], _return(_ERRNO | errno.ENOSYS))  # glibc falls back to clone
    rows += _on_argument(_CLONE[column], 0, _op(_JUMP_SET, _NEW_NAMESPACES, 0, 1), errno.EPERM)
    for numbers in (_PRLIMIT, _SETAFFINITY):  # of oneself only
        rows += _on_argument(numbers[column], 0, _op(_JUMP_EQ, 0, 1, 0), errno.EPERM)
    if not own_files_only:
        for by_path in _BY_PATH.values():
            number = by_path[column]
            rows += [] if number is None else _on(number, _return(_ERRNO))
    if not signals:
        for numbers in _SIGNALS.values():
            own = _op(_JUMP_EQ, os.getpid(), 1, 0)
            rows += _on_argument(numbers[column], 0, own, errno.EPERM)
    rows += _own_families_only(column) if sockets else _pairs_only(column)
    return [*rows, _return(_ALLOW)]


def _own_families_only(column: int) -> list[bytes]:
    rows = [_load(_ARGS)]
    for n, family in enumerate(_FAMILIES, 1):
        rows.append(_op(_JUMP_EQ, family, len(_FAMILIES) - n + 1, 0))
    body = [*rows, _return(_ERRNO | errno.EPERM), _return(_ALLOW)]
    return [_op(_JUMP_EQ, _SOCKETS["socket"][column], 0, len(body)), *body]


def _pairs_only(column: int) -> list[bytes]:
    """Allow connected stream pairs, which event loops are made of; they can reach no address."""
    stream = _op(_JUMP_EQ, _SOCK_STREAM, 1, 0)
    kind = [
        _load(_ARGS + 8),
        _op(_AND, 0xF, 0, 0),
        stream,
        _return(_ERRNO | errno.EPERM),
        _return(_ALLOW),
    ]
    rows = [_op(_JUMP_EQ, _SOCKETPAIR[column], 0, len(kind)), *kind]
    address = [
        _load(_ARGS + 32), _op(_JUMP_EQ, 0, 0, 2), _load(_ARGS + 36), _op(_JUMP_EQ, 0, 1, 0),
        _return(_ERRNO | errno.EPERM), _return(_ALLOW),
    ]  # fmt: skip
    return [*rows, _op(_JUMP_EQ, _SENDTO[column], 0, len(address)), *address]


def _on(number: int, then: bytes) -> list[bytes]:
    return [_op(_JUMP_EQ, number, 0, 1), then]


def _on_argument(number: int, argument: int, passes: bytes, error: int) -> list[bytes]:
    """Refuse a call unless the low half of an argument passes; `passes` skips the refusal."""
    body = [_load(_ARGS + 8 * argument), passes, _return(_ERRNO | error), _return(_ALLOW)]
    return [_op(_JUMP_EQ, number, 0, len(body)), *body]


def _load(offset: int) -> bytes:
    return _op(_LOAD, offset, 0, 0)


def _return(value: int) -> bytes:
    return _op(_RETURN, value, 0, 0)


def _op(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
