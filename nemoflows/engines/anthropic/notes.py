"""What must outlive a process that sent a batch: which requests, since when, under which id.

    batches/<endpoint>/open/<time>-<writer>.json    a batch announced, or under way, or unread
    batches/<endpoint>/done/<time>-<writer>.json    one whose every outcome is in the journal

A note is written before a batch is created and again once the API has told the batch's id. One
without an id says that a batch may exist which nobody knows. Notes hold keys of requests, times
and the place of the process: no prompt, no reply, no secret.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from pydantic import ConfigDict

from nemoflows.errors import EndpointDown, NemoflowsError
from nemoflows.storage.opening import open_store
from nemoflows.storage.store import Records
from nemoflows.types import Value

log = logging.getLogger(__name__)

RESULTS_LIFE_S = 29 * 86_400.0
"""Time for which results can be read. Source: platform.claude.com, batch processing."""

LATELY_S = 26 * 3600.0
"""Time in which a batch ends (24 h, the same source) and is read, with room for slow clocks."""

_WRITER = uuid.uuid4().hex[:8]
_creating: set[str] = set()
"""Names of the notes whose batch this very process is creating just now."""


class Note(Value):
    """A batch that was announced and, with `batch`, one that exists.

    Of a note written by a newer version other fields are passed over: the batch counts, not they.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    keys: tuple[str, ...]
    n_rows: int
    """Requests that were sent: keys may be dropped later, this stays."""
    newest_s: float
    """When the newest batch before it was created, by the API's clock; 0 where there was none."""
    at_s: float
    """Unix time of the announcement, by the writer's clock."""
    host: str
    pid: int
    batch: str = ""
    """The batch's id; empty while nobody knows it."""


class BatchRegistry:
    """The notes of one endpoint's batches."""

    def __init__(self, notes: Records | None, endpoint: str) -> None:
        self.durable = notes is not None
        # Without a journal notes end with the process.
        self._notes = notes or open_store(f"memory://{uuid.uuid4().hex}")
        self._folder = f"batches/{endpoint}"

    def open(self) -> list[Note]:
        """Return the notes of batches with outcomes that may be missing, oldest first.

        Raises:
            EndpointDown: They cannot be read: whether a batch is under way is then unknown.
        """
        return [note for note in self._read("open") if not self._is_over(note)]

    def holding(self, keys: Collection[str]) -> dict[str, Note]:
        """Return the note that holds each request, for those that a batch holds.

        A batch that another process has read to its end since the caller looked for its outcomes
        counts too: reading it again is free, sending it again is not.

        Raises:
            EndpointDown: They cannot be read.
        """
        notes = reversed(self._open_or_lately())
        return {key: note for note in notes for key in note.keys if key in keys}

    def again(self, name: str) -> Note | None:
        """Return a note as it is now; None where it was withdrawn, or cannot be understood."""
        done = f"{self._folder}/done/{name}.json"
        data = self._notes.read(self._path(name)) or self._notes.read(done)
        if data is None:
            return None
        try:
            return Note.model_validate_json(data)
        except ValueError:
            log.warning("The note of a batch at %s is damaged and passed over.", self._path(name))
            return None

    def announce(self, keys: Collection[str], newest_s: float) -> Note:
        """Write down that a batch is about to be created.

        Raises:
            EndpointDown: That cannot be written, so no batch may be created.
        """
        at_s = time.time()
        name = f"{_stamp(at_s)}-{_WRITER}-{uuid.uuid4().hex[:4]}"
        note = Note(
            name=name,
            keys=tuple(keys),
            n_rows=len(keys),
            newest_s=newest_s,
            at_s=at_s,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        with self._told("written"):
            self._write(note)
        return note

    def goes_first(self, note: Note, *, grace_s: float) -> bool | None:
        """Return whether an announced batch may be created; None is not yet known.

        Of processes that announce the same request each sees the other's note, or has written its
        own before the other looked. The later name gives way when it sees the earlier one. The
        earlier one waits until the later one has: that one may have looked too soon to see it.
        """
        notes = [other for other in self._open_or_lately() if other.name != note.name]
        others = [other for other in notes if not set(other.keys).isdisjoint(note.keys)]
        if any(other.batch or other.name < note.name for other in others):
            return False
        if any(not may_be_alive(other, grace_s=grace_s) for other in others):
            return False  # its batch may exist, and is looked for by whoever picks its note up
        return None if others else True

    def found(self, note: Note, batch: str) -> Note:
        """Write down a batch's id."""
        known = note.model_copy(update={"batch": batch})
        self._try(known)
        return known

    def drop(self, note: Note, keys: Collection[str]) -> Note:
        """Write down that a batch has no outcome for some of its requests: they are free again.

        A note of which nothing is left goes: set aside, it would hold them back.
        """
        kept = tuple(key for key in note.keys if key not in keys)
        left = note.model_copy(update={"keys": kept})
        if left.keys:
            self._try(left)
        else:
            self.withdraw(note)
        return left

    def close(self, note: Note) -> None:
        """Set a note aside: every outcome of its batch is in the journal."""
        # Another process may have done so, and an open one costs a read.
        with suppress(NemoflowsError):
            self._notes.move(self._path(note.name), f"{self._folder}/done/{note.name}.json")

    def withdraw(self, note: Note) -> None:
        """Take back a note: no batch came of it, or no outcome."""
        # Left behind, it costs the next process a look at the list.
        with suppress(NemoflowsError):
            self._notes.remove(self._path(note.name))

    @contextmanager
    def creating(self, note: Note) -> Iterator[None]:
        """Tell this process's other tasks that a note's batch is being created just now."""
        _creating.add(note.name)
        try:
            yield
        finally:
            _creating.discard(note.name)

    def _try(self, note: Note) -> None:
        try:
            self._write(note)
        except NemoflowsError as error:
            log.warning(
                "The note of batch %s could not be written (%s): a restart looks for the batch in "
                "the API's list.",
                note.batch,
                error.message,
            )

    def _write(self, note: Note) -> None:
        self._notes.write(self._path(note.name), note.model_dump_json().encode())

    def _open_or_lately(self) -> list[Note]:
        """Return the open notes, then those set aside lately: a note moves in this direction."""
        since_s = time.time() - LATELY_S
        opened, done = self.open(), self._read("done", since=_stamp(since_s))
        return opened + [note for note in done if note.at_s >= since_s]

    def _read(self, folder: str, *, since: str = "") -> list[Note]:
        """Return the notes of a folder whose names are no earlier than `since`, oldest first."""
        with self._told("read"):
            paths = self._notes.names(f"{self._folder}/{folder}")
            names = [path.rpartition("/")[2].removesuffix(".json") for path in paths]
            found = [self.again(name) for name in names if name >= since]
        return [note for note in found if note is not None]

    def _path(self, name: str) -> str:
        return f"{self._folder}/open/{name}.json"

    def _is_over(self, note: Note) -> bool:
        """Return whether a note's results are gone for good, and set such a note aside."""
        over = time.time() - note.at_s > RESULTS_LIFE_S
        if over:
            self.close(note)
        return over

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except NemoflowsError as error:
            raise EndpointDown(
                f"The notes of batches at {self._folder} of the journal cannot be {done} "
                f"({error.message}), so no batch was sent: without them a restart might pay "
                "twice. Mend the journal's root, or set NEMOFLOWS_JOURNAL."
            ) from error


def _stamp(at_s: float) -> str:
    """Return the part of a name by which notes are ordered."""
    return f"{int(at_s * 1000):015d}"


def may_be_alive(note: Note, *, grace_s: float) -> bool:
    """Return whether the writer of a note may still be creating its batch.

    Args:
        grace_s: Time that a writer on another host is given, for nobody can look there.
    """
    if note.host != socket.gethostname():
        return time.time() - note.at_s < grace_s
    if note.pid == os.getpid():  # ours, or a process of the same number before a restart
        return note.name in _creating
    try:
        os.kill(note.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return time.time() - note.at_s < grace_s
