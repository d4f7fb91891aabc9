"""What of root's power a process has, and how it gives it up.

Source: capabilities(7), linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from .libc import syscall

_CAPSET = {"x86_64": 126, "aarch64": 91}
_VERSION = 0x20080522
_MOUNT = 21
"""CAP_SYS_ADMIN."""


def may_mount() -> bool:
    """Return whether this process may mount."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _MOUNT & 1)
    return False


def keep_only(*kept: int) -> None:
    """Give up every capability but the named ones, which programs that are started get too."""
    bits = sum(1 << each for each in kept)
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("IIIIII", bits, bits, bits, 0, 0, 0), 24)
    syscall(_CAPSET[os.uname().machine], header, data)
