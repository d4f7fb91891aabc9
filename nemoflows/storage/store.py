"""One interface to a root: files by name below it, on a local disk or in an object store.

A name is written whole or not at all: locally by a temporary file and a rename, in an object store
by one put, which is whole by the store's own promise.

Not covered: power loss (no fsync).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, NamedTuple
from uuid import uuid4

from nemoflows.errors import CorpusError, EndpointDown, NemoflowsError
from nemoflows.storage.filesystem import credentials
from nemoflows.storage.patience import is_passing

TEMPORARY = ".tmp-nemoflows-"
_OLD_TEMPORARY = ".tmp"
"""How versions below 0.2 ended the names of their temporary files."""
_ABANDONED_S = 24 * 3600.0
"""A temporary file or folder older than this belongs to a process that was killed."""

MISSING = (FileNotFoundError, NotADirectoryError)


@contextmanager
def translated(
    tried: str, *, but: tuple[type[Exception], ...] = (), local: bool = False
) -> Iterator[None]:
    """Raise ours for whatever a file system raises; each kind of store has errors of its own.

    Args:
        tried: What was tried, as the start of a sentence.
        but: Passed on as they are.
        local: A disk, which no network stands before.

    Raises:
        EndpointDown: The store could not be reached, or failed by itself.
        CorpusError: Anything else.
    """
    try:
        yield
    except NemoflowsError:
        raise
    except Exception as error:
        if isinstance(error, but):
            raise
        found = f"{tried}: {type(error).__name__}: {error}."
        if not local and is_passing(error):
            raise EndpointDown(f"{found} Check the endpoint and the network.") from error
        looked = "" if local else credentials(error)
        raise CorpusError(
            f"{found} {looked or 'Check the path, the space left there and the permissions.'}"
        ) from error


class Facts(NamedTuple):
    """What a query needs of a recorded call."""

    key: str
    run: str
    purpose: str
    model: str
    outcome: str
    reason: str
    usd: float | None
    worst_usd: float | None
    started_s: float
    ended_s: float
    prompt_bytes: int
    usage: str
    """As JSON; empty where the provider did not say."""


class Records(ABC):
    """Small files below a root, by names with `/`, as a journal needs them. Any thread may use it.

    A missing name is None; whatever else fails is one of our errors.
    """

    is_local: ClassVar[bool]
    root: str
    """As its file system spells it."""
    uri: str
    """As anybody opens it."""

    def path(self, name: str) -> str:
        """Return where `name` lies, as the file system spells it."""
        return f"{self.root}/{name}" if name else self.root

    def make(self) -> None:
        """Make the root where that can fail, so that it is known before there is any work."""
        return

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`; None where there is no such file."""

    @abstractmethod
    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; none where there is no such file."""

    def last(self, name: str) -> bytes:
        """Return the last line of a file that grows by lines; empty where there is none."""
        return next(reversed((self.read(name) or b"").splitlines()), b"")

    @abstractmethod
    def write(self, name: str, data: bytes, facts: Facts | None = None) -> None:
        """Write `data` under `name`, all of it or nothing.

        Args:
            facts: What `calls` returns of it, where the store keeps a table.
        """

    @abstractmethod
    def append(self, name: str, lines: bytes) -> bool:
        """Add to `name`, a name of this process alone; False where files cannot grow.

        Raises:
            OSError: Not all of it was written.
        """

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have what one thread writes within this become lasting at its end, where that saves work.

        Raises:
            CorpusError: None of it was written.
        """
        yield

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the lengths of all files below `folder` in bytes, by name."""

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below `folder`, sorted; none where it is missing."""
        return sorted(self.sizes(folder))

    def calls(self, run: str | None = None) -> Iterator[Facts]:  # noqa: ARG002
        """Yield the facts of a run's calls, or of all, where the store keeps a table of them."""
        yield from ()

    def unlisted(self, folder: str) -> dict[str, int]:
        """Return the lengths of the files below `folder` that `calls` does not know, by name."""
        return self.sizes(folder)

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def close(self) -> None:
        """Give back what the process holds of the store; whoever uses it again opens it again."""
        return

    def problems(self) -> str:
        """Return what is wrong with the store as a whole; empty where nothing is known to be."""
        return ""

    def compact(self) -> None:
        """Give back the space of what was removed, where that takes work of its own."""
        return


class Store(Records):
    """A root folder or object-store prefix with a file for every name, large ones too."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`; None where there is no such file."""
        tried = f"{self.path(name)} cannot be read"
        with suppress(*MISSING), translated(tried, but=MISSING, local=self.is_local):
            return self._read(name)
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file; none where there is no such file."""
        yield from (self.read(name) or b"").splitlines()

    def write(self, name: str, data: bytes, facts: Facts | None = None) -> None:  # noqa: ARG002
        """Write `data` under `name`, all of it or nothing."""
        tried = f"{self.path(name)} ({len(data):,} bytes) cannot be written"
        with translated(tried, local=self.is_local):
            self._write(name, data)

    def append(self, name: str, lines: bytes) -> bool:  # noqa: ARG002
        """Return that files cannot grow."""
        return False

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the lengths of all files below `folder` in bytes, by name."""
        return {name: size_bytes for name, (size_bytes, _) in self.listed(folder).items()}

    def listed(self, folder: str) -> dict[str, tuple[int, float]]:
        """Return lengths in bytes and times of the last change of all files below `folder`."""
        with translated(f"{self.path(folder)} cannot be listed", local=self.is_local):
            found, at = self._list(folder), len(self.root) + 1
        return {path[at:]: found[path] for path in found if not _is_temporary(path[at:])}

    @abstractmethod
    def touch(self, name: str) -> None:
        """Say that a file is in use, by the time of its change, where that may be done."""

    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""
        with translated(f"{self.path(name)} cannot be moved to {to}", local=self.is_local):
            self._move(name, to)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        tried = f"{self.path(name)} cannot be removed"
        with suppress(*MISSING), translated(tried, but=MISSING, local=self.is_local):
            self._remove(name)

    @contextmanager
    def folder(self, name: str, *, last: str) -> Iterator[Path]:
        """Hand out an empty local folder; what is put there appears as the folder `name`.

        Args:
            name: The folder; one that is there already stays as it is if it has `last`.
            last: The file that marks the folder as whole.
        """
        # Beside its final place where that is local: a rename must not cross file systems.
        parent = Path(self.path(name)).parent if self.is_local else Path(tempfile.gettempdir())
        work = parent / f"{TEMPORARY}{uuid4().hex}"
        try:
            with translated(f"{self.path(name)} cannot be written", local=self.is_local):
                parent.mkdir(0o700, parents=True, exist_ok=True)
                work.mkdir(0o700)
                sweep(parent, f"{TEMPORARY}*")
                yield work
                self._publish(work, name, last)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @abstractmethod
    def _read(self, name: str) -> bytes: ...
    @abstractmethod
    def _write(self, name: str, data: bytes) -> None: ...
    @abstractmethod
    def _list(self, folder: str) -> dict[str, tuple[int, float]]: ...
    @abstractmethod
    def _move(self, name: str, to: str) -> None: ...
    @abstractmethod
    def _remove(self, name: str) -> None: ...
    @abstractmethod
    def _publish(self, work: Path, name: str, last: str) -> None: ...


def sweep(folder: Path, pattern: str = f"*/*/{TEMPORARY}*") -> None:
    """Remove what processes that were killed long ago left; others may be sweeping too."""
    with suppress(OSError):
        for path in folder.glob(pattern):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_temporary(name: str) -> bool:
    return TEMPORARY in name or name.endswith(_OLD_TEMPORARY)
