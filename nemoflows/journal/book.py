"""The journal: one immutable record per call, written whole before anything reads the reply.

Layout below the root, the same on a local disk and on an object store:

    calls/<ab>/<key>.json                 a call's outcome, usage and price; never changed
    intents/<run>/<process>-<n>.jsonl     attempts begun, and those that ended without a reply
    receipts/<run>/<process>-<n>.jsonl    what a process used, one line per call
    gpus/<run>/<process>-<endpoint>.json  what the GPUs of a process did
    shadows/<run>/<process>-<n>.json      what its shadow samples measured
    superseded/<run>/<process>-<n>.json   keys of calls that the next tier answered again
    stories/<run>.json                    what a run's report shows beside its calls
    damaged/<key>-<process>.json          records that could not be read, set aside

Covered: a call that was recorded is never paid again by whoever shares the root, at any number of
writers, since a key's record is the same whoever writes it. An attempt is announced before it is
made, so that one which a kill or a broken connection cut off is known to be in doubt.

Not covered: two processes that ask the same key at the same moment both pay; power loss (no
fsync). Prompts and replies are stored in clear: the root's permissions (0700) are their protection.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError

from nemoflows.errors import BadInput, EndpointDown, NemoflowsError
from nemoflows.journal.records import (
    InDoubt,
    Intent,
    Receipt,
    Record,
    Recorded,
    in_doubt,
    without_blocks,
)
from nemoflows.storage.store import LocalStore, Store, open_store

Noted = Literal["shadows", "superseded"]
R = TypeVar("R", bound=Recorded)
L = TypeVar("L", Intent, Receipt)
log = logging.getLogger(__name__)
_numbers = itertools.count(1)

SEGMENT_LINES = 64
"""Receipts that one object holds; they are rebuildable, so losing the last few costs nothing."""


class Journal:
    """Remembers calls by key; `root` empty remembers nothing. Any thread may use it."""

    def __init__(self, root: str, *, run: str = "") -> None:
        self.root, self.run = root, run
        self._store = _opened(root) if root else None
        self.writer = uuid.uuid4().hex[:8]
        self._waiting: dict[str, list[bytes]] = {"receipts": [], "intents": []}
        self._lock = threading.Lock()
        self.n_lost = 0
        """Paid calls that could not be written."""
        self.n_damaged = 0
        """Records that could not be read and were set aside."""

    @property
    def durable(self) -> bool:
        """Return whether every call so far is remembered."""
        return self._store is not None and not self.n_lost

    @property
    def far(self) -> bool:
        """Return whether the store is reached over a network, so that it takes a while."""
        return self._store is not None and not self._store.is_local

    def get(self, key: str) -> Record | None:
        """Return the record of `key`; a damaged one is set aside and counts as missing."""
        data = self._read(_name(key))
        return None if data is None else self._parse(Record, key, data)

    def outcome(self, key: str) -> Recorded | None:
        """Return what a replay needs of a record: less work than reading it whole."""
        data = self._read(_name(key))
        return None if data is None else self._parse(Recorded, key, data)

    def put(self, record: Record) -> bool:
        """Write a record; where that fails the run goes on, and says that it is not durable.

        Returns:
            Whether it is written.
        """
        if not self._store:
            return False
        try:
            self._store.write(_name(record.key), _written(record))
        except (NemoflowsError, ValueError) as error:
            self.n_lost += 1
            log.error(  # noqa: TRY400  (a trace would bury what to do)
                "A paid call could not be recorded: %s The run goes on, and a restart pays for it "
                "again. Mend that, or set NEMOFLOWS_JOURNAL.",
                getattr(error, "message", error),
            )
            return False
        return True

    def keys(self) -> list[str]:
        """Return the keys of all records, sorted."""
        names = self._store.names("calls") if self._store else []
        return [name.rpartition("/")[2].removesuffix(".json") for name in names]

    def begin(self, intent: Intent) -> None:
        """Announce an attempt, at once; where that fails the attempt is made all the same."""
        self._add("intents", intent.model_dump_json().encode() + b"\n", at_once=True)

    def end(self, intent: Intent) -> None:
        """Say how an attempt ended without a reply."""
        self._add("intents", intent.model_dump_json().encode() + b"\n")

    def receipt(self, receipt: Receipt) -> None:
        """Add a line about a call that this process used."""
        self._add("receipts", receipt.model_dump_json().encode() + b"\n")

    def flush(self) -> None:
        """Put the lines that wait for their segment; every task does so at its end."""
        for kind in self._waiting:
            self._put_waiting(kind)

    def records(self) -> Iterator[Record]:
        """Yield every record, sorted by key; damaged ones are set aside."""
        for key in self.keys():
            if record := self.get(key):
                yield record

    def remove(self, record: Record) -> None:
        """Remove a record: whoever asks its request again pays again."""
        if self._store:
            self._store.remove(_name(record.key))

    def runs(self, kind: str = "intents") -> list[str]:
        """Return the ids of all runs that announced an attempt, sorted.

        Args:
            kind: Of what they left: `intents`, `receipts` or `stories`.
        """
        names = self._store.names(kind) if self._store else []
        left = (name.removeprefix(f"{kind}/") for name in names)
        if kind == "stories":
            return sorted(name.removesuffix(".json") for name in left)
        return sorted({name.rpartition("/")[0] for name in left})

    def remove_lines(self, run: str) -> None:
        """Remove what is told of a run's attempts and replays, its GPUs and its story."""
        if not self._store:
            return
        names = [
            name
            for kind in (*self._waiting, "gpus", *get_args(Noted))
            for name in self._store.names(f"{kind}/{run}")
        ]
        story = f"stories/{run}.json"
        for name in [*names, *([story] if self._read(story) else [])]:
            self._store.remove(name)

    def in_doubt(self, run: str = "") -> list[InDoubt]:
        """Return the attempts of a run that may have been billed without a record.

        Args:
            run: Its id; empty is this journal's own run.
        """
        found = []
        for writer, lines in self._lines("intents", Intent, run):
            open_keys = {attempt.key for attempt in in_doubt(writer, lines, set())}
            answered = {key for key in open_keys if self._writer_of(key) == writer}
            found += in_doubt(writer, lines, answered)
        return sorted(found, key=lambda attempt: attempt.at_s)

    def begun(self, scope: str) -> set[str]:
        """Return the keys of this run's calls that were made, or announced, for some work."""
        by_writer = self._lines("intents", Intent)
        return {line.key for _, lines in by_writer for line in lines if line.scope == scope}

    def receipts(self, run: str = "") -> list[Receipt]:
        """Return what the processes of a run used, in the order of time.

        Args:
            run: Its id; empty is this journal's own run.
        """
        by_writer = self._lines("receipts", Receipt, run)
        return sorted((line for _, lines in by_writer for line in lines), key=lambda x: x.at_s)

    def note_gpu(self, told: str, endpoint: str) -> None:
        """Write what this process's GPUs did so far; worth no run, so that failing is no error."""
        self._note(f"gpus/{self.run or 'run'}/{self.writer}-{endpoint}.json", told)

    def gpu_notes(self, run: str = "") -> list[str]:
        """Return what the processes of a run wrote of their GPUs."""
        return self._notes("gpus", run)

    def note(self, kind: Noted, told: str) -> None:
        """Write what this process measured, or whose calls the next tier answered again."""
        number = next(_numbers)
        self._note(f"{kind}/{self.run or 'run'}/{self.writer}-{number}.json", told)

    def notes(self, kind: Noted, run: str = "") -> list[str]:
        """Return what the processes of a run noted."""
        return self._notes(kind, run)

    def note_story(self, told: str) -> None:
        """Write what this run's report shows beside its calls."""
        self._note(f"stories/{self.run or 'run'}.json", told)

    def story(self, run: str = "") -> str:
        """Return what a run wrote for its report; empty where it has not come that far."""
        data = self._read(f"stories/{run or self.run or 'run'}.json")
        return data.decode() if data else ""

    def _read(self, name: str) -> bytes | None:
        try:
            return self._store.read(name) if self._store else None
        except NemoflowsError as error:
            if not self.far:
                raise BadInput(
                    f"{error.message} The journal's files are private to whoever wrote them; give "
                    "each user a root of their own."
                ) from error
            raise EndpointDown(
                f"The journal at {self.root} does not answer ({error.message}) Whether a call was "
                "paid already is unknown, so none is made; started again, the run goes on."
            ) from error

    def _notes(self, kind: str, run: str) -> list[str]:
        names = self._store.names(f"{kind}/{run or self.run or 'run'}") if self._store else []
        return [data.decode() for name in names if (data := self._read(name))]

    def _note(self, name: str, told: str) -> None:
        with suppress(NemoflowsError):
            if self._store:
                self._store.write(name, told.encode("utf-8", "replace"))

    def _parse(self, kind: type[R], key: str, data: bytes) -> R | None:
        try:
            found = kind.model_validate_json(data, extra="ignore")
        except ValidationError as error:
            if _key_in(data) == key:
                raise BadInput(
                    f"The record {key} at {self.root} is whole and was written by another version "
                    f"of nemoflows ({error.error_count()} fields cannot be read). Nothing is asked "
                    "again, for it is paid: use that version, or name another NEMOFLOWS_JOURNAL."
                ) from None
        else:
            if found.key == key:
                return found
        self._set_aside(key)
        return None

    def _set_aside(self, key: str) -> None:
        self.n_damaged += 1
        aside = f"damaged/{key}-{self.writer}.json"
        log.warning(
            "The record %s at %s is damaged and counts as missing; it now lies at %s.",
            key,
            self.root,
            aside,
        )
        with suppress(NemoflowsError):  # another process may have set it aside just now
            if self._store:
                self._store.move(_name(key), aside)

    def _writer_of(self, key: str) -> str:
        data = self._read(_name(key))
        found = _line(data) if data else None
        return str((found or {}).get("writer", ""))

    def _add(self, kind: str, line: bytes, *, at_once: bool = False) -> None:
        """Add a line to this process's segment; on an object store, several lines at a time."""
        if not self._store:
            return
        with suppress(OSError):  # worth no run: a record is what counts
            if self._store.append(self._segment(kind, "0"), line):
                return
        with self._lock:
            self._waiting[kind].append(line)
            full = len(self._waiting[kind]) >= SEGMENT_LINES
        if at_once or full:
            self._put_waiting(kind)

    def _put_waiting(self, kind: str) -> None:
        with self._lock:
            lines, self._waiting[kind] = self._waiting[kind], []
            number = next(_numbers)
        if self._store and lines:
            with suppress(NemoflowsError):  # as above
                self._store.write(self._segment(kind, f"{number:08d}"), b"".join(lines))

    def _segment(self, kind: str, number: str) -> str:
        return f"{kind}/{self.run or 'run'}/{self.writer}-{number}.jsonl"

    def _lines(self, folder: str, kind: type[L], run: str = "") -> list[tuple[str, list[L]]]:
        """Return every process of a run with its lines, in order; half a line is none."""
        by_writer: dict[str, list[L]] = {}
        names = self._store.names(f"{folder}/{run or self.run or 'run'}") if self._store else []
        for name in names:
            writer = name.rpartition("/")[2].partition("-")[0]
            lines = by_writer.setdefault(writer, [])
            for data in (self._read(name) or b"").splitlines():
                with suppress(ValidationError):
                    lines.append(kind.read(data))
        return list(by_writer.items())


def _opened(root: str) -> Store:
    store = open_store(root)
    try:
        if isinstance(store, LocalStore):
            store.make()
    except BadInput as error:
        raise BadInput(
            f"{error.message} Or set NEMOFLOWS_JOURNAL to a folder you can write, or to `off` to "
            "pay for every call again."
        ) from error
    return store


def _line(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _key_in(data: bytes) -> str:
    return str((_line(data) or {}).get("key", ""))


def _name(key: str) -> str:
    return f"calls/{key[:2]}/{key}.json"


def _written(record: Record) -> bytes:
    try:
        return record.model_dump_json(by_alias=True).encode()
    except ValueError:  # blocks nested too deep for JSON: better without them than not at all
        return without_blocks(record).model_dump_json(by_alias=True).encode()
