"""The journal: one immutable record per call, written whole before anything reads the reply.

Layout below the root, the same on a local disk and on an object store:

    calls/<ab>/<key>.json                 a call's outcome, usage and price; never changed
    intents/<run>/<process>-<n>.jsonl     attempts begun, and those that ended without a reply
    receipts/<run>/<process>-<n>.jsonl    what a process used, one line per call
    gpus/<run>/<process>-<endpoint>.json  what the GPUs of a process did
    stories/<run>.json                    what a run's report shows beside its calls
    damaged/<key>-<process>.json          records that could not be read, set aside

Covered: a call that was recorded is never paid again by whoever shares the root, at any number of
writers, since a key's record is the same whoever writes it. An attempt is announced before it is
made, so that one which a kill or a broken connection cut off is known to be uncertain.

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
from typing import Any, TypeVar

from pydantic import ValidationError

from nemoflows.errors import BadInput
from nemoflows.journal.records import Intent, Receipt, Record, Recorded, Uncertain, uncertain
from nemoflows.journal.stores import RemoteStore, open_store

R = TypeVar("R", bound=Recorded)
log = logging.getLogger(__name__)
_numbers = itertools.count(1)

SEGMENT_LINES = 64
"""Receipts that one object holds; they are rebuildable, so losing the last few costs nothing."""


class Journal:
    """Remembers calls by key; `root` empty remembers nothing. Any thread may use it."""

    def __init__(self, root: str, *, run: str = "") -> None:
        self.root, self.run = root, run
        self._store = open_store(root) if root else None
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
        return isinstance(self._store, RemoteStore)

    def get(self, key: str) -> Record | None:
        """Return the record of `key`; a damaged one is set aside and counts as missing."""
        data = self._store.read(_name(key)) if self._store else None
        return None if data is None else self._parse(Record, key, data)

    def outcome(self, key: str) -> Recorded | None:
        """Return what a replay needs of a record: a fraction of the work of reading it whole."""
        data = self._store.read(_name(key)) if self._store else None
        if data is None:
            return None
        head, newline, _ = data.partition(b"\n")
        return self._parse(Recorded, key, head + b"}" if newline else data)

    def put(self, record: Record) -> bool:
        """Write a record; where that fails the run goes on, and says that it is not durable.

        Returns:
            Whether it is written.
        """
        if not self._store:
            return False
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
            return False
        return True

    def keys(self) -> list[str]:
        """Return the keys of all records, sorted."""
        names = self._store.names("calls") if self._store else []
        return [name.rpartition("/")[2].removesuffix(".json") for name in names]

    def begin(self, intent: Intent) -> None:
        """Announce an attempt, at once; where that fails the attempt is made all the same."""
        self._add("intents", intent.line(), at_once=True)

    def end(self, intent: Intent) -> None:
        """Say how an attempt ended without a reply."""
        self._add("intents", intent.line())

    def receipt(self, receipt: Receipt) -> None:
        """Add a line about a call that this process used."""
        self._add("receipts", receipt.line())

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
            name for kind in (*self._waiting, "gpus") for name in self._store.names(f"{kind}/{run}")
        ]
        story = f"stories/{run}.json"
        for name in [*names, *([story] if self._store.read(story) else [])]:
            self._store.remove(name)

    def uncertain(self, run: str = "") -> list[Uncertain]:
        """Return the attempts of a run that may have been billed without a record.

        Args:
            run: Its id; empty is this journal's own run.
        """
        found = []
        for writer, lines in self._lines_by_writer("intents", run or self.run or "run"):
            unsettled = {attempt.key for attempt in uncertain(writer, lines, set())}
            answered = {key for key in unsettled if self._writer_of(key) == writer}
            found += uncertain(writer, lines, answered)
        return sorted(found, key=lambda attempt: attempt.at_s)

    def begun(self, scope: str) -> set[str]:
        """Return the keys of this run's calls that were made, or announced, for some work."""
        return {
            line["key"]
            for _, lines in self._lines_by_writer("intents", self.run or "run")
            for line in lines
            if line.get("scope") == scope
        }

    def receipts(self, run: str = "") -> list[dict[str, Any]]:
        """Return what the processes of a run used, in the order of time.

        Args:
            run: Its id; empty is this journal's own run.
        """
        by_writer = self._lines_by_writer("receipts", run or self.run or "run")
        lines = [line for _, told in by_writer for line in told]
        return sorted(lines, key=lambda line: line["at_s"])

    def note_gpu(self, told: str, endpoint: str) -> None:
        """Write what this process's GPUs did so far; worth no run, so that failing is no error."""
        self._note(f"gpus/{self.run or 'run'}/{self.writer}-{endpoint}.json", told)

    def gpu_notes(self, run: str = "") -> list[str]:
        """Return what the processes of a run wrote of their GPUs."""
        folder = f"gpus/{run or self.run or 'run'}"
        names = self._store.names(folder) if self._store else []
        return [data.decode() for name in names if self._store and (data := self._store.read(name))]

    def note_story(self, told: str) -> None:
        """Write what this run's report shows beside its calls."""
        self._note(f"stories/{self.run or 'run'}.json", told)

    def story(self, run: str = "") -> str:
        """Return what a run wrote for its report; empty where it has not come that far."""
        data = self._store.read(f"stories/{run or self.run or 'run'}.json") if self._store else None
        return data.decode() if data else ""

    def _note(self, name: str, told: str) -> None:
        with suppress(Exception):  # fsspec raises each store's own errors
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
        with suppress(Exception):  # another process may have set it aside just now
            if self._store:
                self._store.move(_name(key), aside)

    def _writer_of(self, key: str) -> str:
        data = self._store.read(_name(key)) if self._store else None
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
            with suppress(Exception):  # as above
                self._store.write(self._segment(kind, f"{number:08d}"), b"".join(lines))

    def _segment(self, kind: str, number: str) -> str:
        return f"{kind}/{self.run or 'run'}/{self.writer}-{number}.jsonl"

    def _lines_by_writer(self, kind: str, run: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Return every process of a run with its lines, in order; half a last line is none."""
        if not self._store:
            return
        by_writer: dict[str, list[dict[str, Any]]] = {}
        for name in self._store.names(f"{kind}/{run}"):
            writer = name.rpartition("/")[2].partition("-")[0]
            lines = (self._store.read(name) or b"").splitlines()
            told = (line for line in map(_line, lines) if line and _is_whole(line, kind))
            by_writer.setdefault(writer, []).extend(told)
        yield from by_writer.items()


def _line(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_whole(line: dict[str, Any], kind: str) -> bool:
    """Return whether a line has what every reader of it needs."""
    needed = {"key", "number", "kind"} if kind == "intents" else {"key", "at_s", "replayed"}
    return needed <= line.keys()


def _key_in(data: bytes) -> str:
    return str((_line(data) or {}).get("key", ""))


def _name(key: str) -> str:
    return f"calls/{key[:2]}/{key}.json"
