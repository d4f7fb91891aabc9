"""The journal: one immutable record per call, written whole before anything reads the reply.

Layout below the root, the same on a local disk and on an object store:

    calls/<ab>/<key>.json                 a call's outcome, usage and price; never changed
    receipts/<run>/<process>-<n>.jsonl    what a process used, one line per call

Covered: a call that was recorded is never paid again by whoever shares the root, at any
number of writers, since a key's record is the same whoever writes it.

Not covered yet: intents (a call in flight when the process dies is repeated unannounced),
set-aside of damaged records beyond treating them as missing, power loss (no fsync). Prompts
and replies are stored in clear: the root's permissions (0700) are their protection.
"""

from __future__ import annotations

import itertools
import logging
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from nemoflows.calls import Answered, Attempt, Request, Unusable, Usage
from nemoflows.errors import BadInput
from nemoflows.types import Value

R = TypeVar("R", bound="Recorded")
log = logging.getLogger(__name__)
_numbers = itertools.count(1)

CHUNK_BYTES = 1 << 20
SEGMENT_LINES = 64
"""Receipts that one object holds; they are rebuildable, so losing the last few costs nothing."""


class Recorded(Value):
    """A paid call as a replay and the ledger need it; what else a record holds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    purpose: str
    model: str
    """The model as it was asked for, in its spelling."""
    outcome: Answered | Unusable = Field(discriminator="kind")
    usd: float | None
    """Price at the time of the call; None where nobody knows."""
    started_s: float
    ended_s: float
    run: str = ""
    """The run that paid for it."""

    @property
    def usage(self) -> Usage:
        """Return the tokens that the reply took; zeros where the provider did not say."""
        return self.outcome.reply.usage or Usage()


class Record(Recorded):
    """A paid call, whole: enough to replay it, price it and show it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: Request
    attempts: list[Attempt] = Field(default_factory=list)

    def line(self) -> bytes:
        """Return the record as one JSON object with one line break in it.

        What stands before the break, closed, is an object too: all that a replay parses. A line
        break cannot stand inside a JSON string, so the first one is always this one.
        """
        more = set(type(self).model_fields) - set(Recorded.model_fields)
        head = self.model_dump_json(exclude=more)[:-1]
        tail = self.model_dump_json(include=more, exclude_defaults=True, by_alias=True)[1:]
        return f"{head}\n,{tail}".encode()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A line of what a process used; the rest of it is in the record."""

    key: str
    replayed: bool
    at_s: float
    """Unix time."""

    def line(self) -> bytes:
        """Return the line as JSON; a key is hexadecimal, so nothing needs escaping."""
        replayed = "true" if self.replayed else "false"
        line = f'{{"key":"{self.key}","replayed":{replayed},"at_s":{self.at_s!r}}}\n'
        return line.encode()


class Store(Protocol):
    """Bytes by name, written whole; missing is None."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`."""

    def write(self, name: str, data: bytes) -> None:
        """Write `data` under `name`, all of it or nothing."""

    def append(self, name: str, lines: bytes) -> bool:
        """Add to `name`, a name of this process alone; False where names cannot grow."""


class LocalStore:
    """A folder, 0700; a write is a temporary file and a rename."""

    def __init__(self, root: Path) -> None:
        root = root.absolute()
        self.root = str(root)
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadInput(
                f"The journal at {root} cannot be made: {error.strerror}. Set NEMOFLOWS_JOURNAL "
                "to a folder you can write, or to `off` to pay for every call again."
            ) from error
        self._made: set[str] = set()
        self._growing: dict[str, int] = {}

    def read(self, name: str) -> bytes | None:
        """Return the file's bytes."""
        try:
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY)
            try:
                return b"".join(iter(lambda: os.read(fd, CHUNK_BYTES), b""))
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadInput(
                f"The journal at {self.root} cannot be read: {error.strerror}. Its files are "
                "private to whoever wrote them; give each user a root of their own."
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a temporary file beside `name` and rename it."""
        path = self._path(name)
        temporary = f"{path}.{os.getpid()}-{next(_numbers)}.tmp"
        with open(temporary, "wb", opener=_private) as file:
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105  (a hot path; Path costs more than the call)

    def append(self, name: str, lines: bytes) -> bool:
        """Append in one write to a file that stays open."""
        if name not in self._growing:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._growing[name] = _private(self._path(name), flags)
        os.write(self._growing[name], lines)
        return True

    def _path(self, name: str) -> str:
        folder = f"{self.root}/{name.rpartition('/')[0]}"
        if folder not in self._made:
            for parent in reversed([Path(folder), *Path(folder).parents]):
                if str(parent).startswith(self.root):
                    parent.mkdir(exist_ok=True, mode=0o700)
            self._made.add(folder)
        return f"{self.root}/{name}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class RemoteStore:
    """A prefix of an object store; a put is whole by the store's own promise."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.fs, self.root = fsspec.core.url_to_fs(url)

    def read(self, name: str) -> bytes | None:
        """Return the object's bytes."""
        try:
            data: bytes = self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put the object."""
        self.fs.pipe_file(f"{self.root}/{name}", data)

    def append(self, name: str, lines: bytes) -> bool:  # noqa: ARG002  (the protocol's shape)
        """Refuse: objects cannot grow, so receipts are put as numbered segments."""
        return False


class Journal:
    """Remembers calls by key; `root` empty remembers nothing."""

    def __init__(self, root: str, *, run: str = "") -> None:
        self.root, self.run = root, run
        self._store = open_store(root) if root else None
        self._process = f"{uuid.uuid4().hex[:8]}"
        self._lines: list[bytes] = []
        self.n_lost = 0
        """Paid calls that could not be written."""

    @property
    def durable(self) -> bool:
        """Return whether every call so far is remembered."""
        return self._store is not None and not self.n_lost

    def get(self, key: str) -> Record | None:
        """Return the record of `key`; a damaged one counts as missing, with a warning."""
        data = self._store.read(_name(key)) if self._store else None
        return None if data is None else self._parse(Record, key, data)

    def outcome(self, key: str) -> Recorded | None:
        """Return what a replay needs of a record: a fraction of the work of reading it whole."""
        data = self._store.read(_name(key)) if self._store else None
        if data is None:
            return None
        head, newline, _ = data.partition(b"\n")
        return self._parse(Recorded, key, head + b"}" if newline else data)

    def put(self, record: Record) -> None:
        """Write a record; where that fails the run goes on, and says that it is not durable."""
        if not self._store:
            return
        try:
            self._store.write(_name(record.key), record.line())
        except Exception as error:  # noqa: BLE001  (fsspec raises each store's own errors)
            self.n_lost += 1
            log.error(  # noqa: TRY400  (a trace would bury what to do)
                "A paid call could not be recorded at %s (%s): the run goes on, and a restart "
                "pays for it again. Free some space, or set NEMOFLOWS_JOURNAL.",
                self.root,
                type(error).__name__,
            )

    def _parse(self, kind: type[R], key: str, data: bytes) -> R | None:
        try:
            return kind.model_validate_json(data)
        except ValidationError:
            log.warning("The record %s at %s is damaged and counts as missing.", key, self.root)
            return None

    def receipt(self, receipt: Receipt) -> None:
        """Add a line to this process's segment; on an object store, every so many lines."""
        if not self._store:
            return
        line = receipt.line()
        with suppress(OSError):  # rebuildable from records, so never worth a run
            if self._store.append(self._segment("0"), line):
                return
        self._lines.append(line)
        if len(self._lines) >= SEGMENT_LINES:
            self.flush()

    def flush(self) -> None:
        """Put the receipts that wait for their segment; every task does so at its end."""
        if self._store and self._lines:
            lines, self._lines = self._lines, []
            with suppress(Exception):  # as above
                self._store.write(self._segment(str(next(_numbers))), b"".join(lines))

    def _segment(self, number: str) -> str:
        return f"receipts/{self.run or 'run'}/{self._process}-{number}.jsonl"


def _name(key: str) -> str:
    return f"calls/{key[:2]}/{key}.json"


@cache
def open_store(root: str) -> Store:
    """Return the store at a path or an fsspec URL."""
    if "://" in root:
        return RemoteStore(root)
    return LocalStore(Path(root).expanduser())
