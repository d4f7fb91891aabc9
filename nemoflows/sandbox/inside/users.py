"""Users whom nobody is: each is leased to one fork server, so that its runs alone are that user."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

_FIRST, _N = 61_184, 4_336
"""Source: systemd, Users, groups, UIDs and GIDs: the range for dynamic users is 61184 to 65519."""


def lease() -> tuple[int, socket.socket]:
    """Return a user of whom there are no processes, and the lease of it, which ends when closed.

    Raises:
        OSError: All are taken.
    """
    for n in range(_N):
        uid = _FIRST + (os.getpid() + n) % _N
        leased = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            leased.bind(f"\0nemoflows-user-{uid}")  # an abstract name: it goes with its holder
            if uid not in _at_work():
                return uid, leased
        leased.close()
    raise OSError(errno.EAGAIN, "every user of the range is taken")


def _at_work() -> set[int]:
    """Return the users of whom there are processes."""
    found = set()
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit():
                found.add(os.stat(f"/proc/{name}").st_uid)
    return found
