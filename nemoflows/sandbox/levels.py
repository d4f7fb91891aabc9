"""Which levels of containment there are, what each contains, and which this machine has.

`full` gives a run namespaces of its own (files, processes, network, IPC), and Landlock and seccomp
on top. `landlock` gives it Landlock, seccomp without sockets, limits, and a fork server that adopts
and kills whatever it starts. `weak` gives it limits and a clean environment. Where the caller is
root, each run first becomes a user who is nobody and owns nothing: limits on processes do nothing
to root. Where the interpreter lies in a folder that only root may enter, `landlock` keeps the one
capability to read what Landlock leaves open.

| attack                                        | full | landlock | weak                          |
|-----------------------------------------------|------|----------|-------------------------------|
| TCP, UDP, DNS, Unix sockets outside           | yes  | yes      | no                            |
| reading outside the copy (home, keys, others) | yes  | yes      | only what modes protect       |
| writing outside the scratch folder            | yes  | yes      | only what modes protect       |
| seeing that a path outside exists             | yes  | no       | no                            |
| symbolic links and `..` out of the copy       | yes  | yes      | only what modes protect       |
| fork bomb, endless loop, memory, big files    | yes  | yes      | yes                           |
| memory that no process maps (memfd)           | yes  | yes      | no                            |
| files without number, deep folders            | yes  | yes      | in its own folders            |
| many files that fill the disk                 | yes  | yes      | in its own folders            |
| gigabytes of output                           | yes  | yes      | yes                           |
| processes that outlive the run                | yes  | yes      | yes                           |
| killing the parent or other processes         | yes  | yes      | as root: yes                  |
| environment with secrets                      | yes  | yes      | yes                           |
| leaving System V IPC or shared memory behind  | yes  | yes      | no                            |

Where the caller is root, code may add files to its copy of the tree, and change those and what is
neither code nor test nor setting: the rest belongs to another user. Elsewhere the copy is to read
alone. At `full` what it adds, and what it writes to `/tmp` and `/var/tmp`, lies in memory.

At `landlock`, code may not open sockets at all; at `full` it has a loopback of its own. `landlock`
needs ABI 3 (Linux 6.2); below ABI 6 (6.12) signals to other processes are refused altogether. Where
the caller is not root, changes of modes and times by path pretend to succeed and do nothing, since
Landlock does not look at them. Limits on memory count all processes of a run, looked at 20 times a
second; of shared memory they count what is resident in somebody's map at that time. Below `full`
what is written is counted so too, where the disk's room shrinks: a run is ended once it is past
the limit, at `full` no byte more is taken. Files that have no name and that no process holds open,
but maps, are not counted, nor the bytes of those deeper than a path may be long.

Not covered at any level: faults of the kernel, timing channels, and what a run's own result says of
it, which `nemoflows.coding.verdict` looks at.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from nemoflows.errors import BadInput
from nemoflows.types import Setting

Level = Literal["weak", "landlock", "full"]
"""How well a test run is contained, the weakest first; `nemoflows.sandbox.levels` has the table."""


class Limits(Setting):
    """What one test run may take; past any of these all its processes are killed.

    As text it is JSON, YAML or the name of such a file.
    """

    seconds: float = Field(default=120.0, gt=0, le=86_400)
    """Wall clock of the whole run; CPU time of each process, one second more."""
    test_seconds: float = Field(default=30.0, gt=0, le=86_400)
    """Of one test, which then fails; the others go on."""
    memory_mib: int = Field(default=2048, ge=64, le=1 << 22)
    """Resident memory of all processes together, and private data of each."""
    processes: int = Field(default=64, ge=1, le=1 << 22)
    file_mib: int = Field(default=64, ge=1, le=1 << 22)
    """Of all that is written together, and of each file."""


LEVELS: tuple[Level, ...] = get_args(Level)
"""The weakest first."""


def at_least(wanted: Level, available: tuple[Level, ...]) -> Level:
    """Return the strongest level that the machine has.

    Raises:
        BadInput: It is weaker than wanted.
    """
    best = max(available, key=LEVELS.index)
    if LEVELS.index(best) < LEVELS.index(wanted):
        raise BadInput(
            f"min_sandbox={wanted}, and this machine contains a test run only at the level {best}. "
            "Run on Linux 6.2 or newer with Landlock, or where user namespaces are allowed; or set "
            f"min_sandbox={best} for a repository and a model that you trust. Nothing was run."
        )
    return best
