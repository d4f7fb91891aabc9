"""The journal: one immutable record per call, written whole before anything reads the reply.

Names below the root: rows of one SQLite file on a disk, objects or files elsewhere:

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

Not covered: two processes that ask the same key at the same moment both pay; power loss. Prompts
and replies are stored in clear: the root's permissions (0700) are their protection.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from zlib import crc32

from pydantic import ValidationError

from nemoflows.errors import BadInput, EndpointDown, NemoflowsError
from nemoflows.journal.notes import Notes, line_of, numbers
from nemoflows.journal.records import Intent, Receipt, Record, Recorded, without_blocks
from nemoflows.storage.opening import open_records
from nemoflows.storage.store import Facts, Records

R = TypeVar("R", bound=Recorded)
_SUM = re.compile(rb',"crc":"([0-9a-f]{8})"}\Z')
_SUM_BYTES = 18
_BOM = b"\xef\xbb\xbf"
log = logging.getLogger(__name__)

MOST_BYTES = 2**26
"""Longest record: twice the longest context, and what the longest reply takes."""
SEGMENT_LINES = 64
"""Receipts that one object holds; they are rebuildable, so losing the last few costs nothing."""


class Journal(Notes):
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
        self.n_passed_over = 0
        """Records that this version does not read, and left where they are."""

    @property
    def store(self) -> Records:
        """Return where it lies.

        Raises:
            BadInput: It has no root, and remembers nothing.
        """
        if self._store is None:
            raise BadInput("The journal is off: there is nothing in it.")
        return self._store

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
        return self._find(Record, key)

    def outcome(self, key: str) -> Recorded | None:
        """Return what a replay needs of a record: less work than reading it whole."""
        return self._find(Recorded, key)

    def put(self, record: Record) -> bool:
        """Write a record; where that fails the run goes on, and says that it is not durable.

        Returns:
            Whether it is written.
        """
        if not self._store:
            return False
        try:
            self._store.write(_name(record.key), _written(record), facts_of(record))
        except (NemoflowsError, ValueError) as error:
            self.n_lost += 1
            log.error(  # noqa: TRY400  (a trace would bury what to do)
                "A paid call could not be recorded: %s The run goes on, and a restart pays for it "
                "again. Mend that, or set NEMOFLOWS_JOURNAL.",
                getattr(error, "message", error),
            )
            return False
        return True

    def write_together(self, writes: Sequence[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
        """Make some writes, of this journal's own methods, in one go, and return what each said."""
        if not self._store or len(writes) < 2:
            return [write(given) for write, given in writes]
        n_lost = self.n_lost
        try:
            with self._store.together():
                return [write(given) for write, given in writes]
        except NemoflowsError:  # nothing was written: each for itself, then
            self.n_lost = n_lost
        return [write(given) for write, given in writes]

    def keys(self) -> list[str]:
        """Return the keys of all records, sorted."""
        return list(self._each_key(self._store.sizes)) if self._store else []

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

    def close(self) -> None:
        """Write what waits, and let go of the store until it is used again."""
        self.flush()
        if self._store:
            self._store.close()

    def records(self) -> Iterator[Record]:
        """Yield every record whole; see `each`."""
        return self.each(Record)

    def each(self, kind: type[R]) -> Iterator[R]:
        """Yield every record, sorted by key, one at a time in memory.

        Damaged ones are set aside. What this version cannot read stays, is named and passed over.
        """
        if self._store:
            yield from self._read_each(kind, self._store.sizes)

    def _read_each(self, kind: type[R], listed: Callable[[str], dict[str, int]]) -> Iterator[R]:
        for key in self._each_key(listed):
            try:
                record = self._find(kind, key)
            except BadInput as error:
                self.n_passed_over += 1
                log.warning("Passed over: %s", error.message)
            else:
                if record:
                    yield record

    def facts(self, run: str | None = None) -> Iterator[Facts]:
        """Yield what queries need of each call of a run, or of all: of most from a table.

        Records that the table does not know are read, one at a time; see `each`.
        """
        if self._store:
            yield from self._store.calls(run)
            for record in self._read_each(Recorded, self._store.unlisted):
                if run in {None, record.run}:
                    yield facts_of(record)

    def remove(self, key: str) -> None:
        """Remove a record: whoever asks its request again pays again."""
        if self._store:
            self._store.remove(_name(key))

    def _read(self, name: str) -> bytes | None:
        with self._answering():
            return self._store.read(name) if self._store else None

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except NemoflowsError as error:
            if not self.far:
                raise BadInput(
                    f"{error.message} The journal's files are private to whoever wrote them, and "
                    "no links; give each user a root of their own."
                ) from error
            raise EndpointDown(
                f"The journal at {self.root} does not answer ({error.message}) Whether a call was "
                "paid already is unknown, so none is made; started again, the run goes on."
            ) from error

    def _each_key(self, listed: Callable[[str], dict[str, int]]) -> Iterator[str]:
        """Yield the keys of all records, sorted, without holding those of a disk all at once."""
        folders = ["calls"] if self.far else [f"calls/{number:02x}" for number in range(256)]
        for folder in folders:
            for name, n_bytes in sorted(listed(folder).items()):
                key = name.rpartition("/")[2].removesuffix(".json")
                if name == _name(key) and n_bytes <= MOST_BYTES:
                    yield key
                else:
                    self.n_passed_over += 1
                    log.warning("Passed over: %s (%d bytes) is no record.", name, n_bytes)

    def _find(self, kind: type[R], key: str) -> R | None:
        data = self._content(key)
        return None if data is None else self._parse(kind, key, data)

    def _content(self, key: str) -> bytes | None:
        return self._read(_name(key))

    def _parse(self, kind: type[R], key: str, data: bytes) -> R | None:
        data = summed(data)
        try:
            found = kind.model_validate_json(data, extra="ignore")
        except ValidationError as error:
            if key_in(data) == key:
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
            number = next(numbers)
        if self._store and lines:
            with suppress(NemoflowsError):  # as above
                self._store.write(self._segment(kind, f"{number:08d}"), b"".join(lines))

    def _segment(self, kind: str, number: str) -> str:
        return f"{kind}/{self.run or 'run'}/{self.writer}-{number}.jsonl"


def _opened(root: str) -> Records:
    store = open_records(root)
    try:
        store.make()
    except BadInput as error:
        raise BadInput(
            f"{error.message} Or set NEMOFLOWS_JOURNAL to a folder you can write, or to `off` to "
            "pay for every call again."
        ) from error
    return store


def key_in(data: bytes) -> str:
    """Return the key that a record names; empty where it names none."""
    return str((line_of(data) or {}).get("key", ""))


def _name(key: str) -> str:
    return f"calls/{key[:2]}/{key}.json"


def facts_of(record: Recorded) -> Facts:
    """Return what queries need of a record."""
    usage = record.outcome.reply.usage
    return Facts(
        key=record.key,
        run=record.run,
        purpose=record.purpose,
        model=record.model,
        outcome=record.outcome.kind,
        reason=getattr(record.outcome, "reason", ""),
        usd=record.usd,
        worst_usd=record.worst_usd,
        started_s=record.started_s,
        ended_s=record.ended_s,
        prompt_bytes=record.prompt_bytes,
        usage=usage.model_dump_json() if usage else "",
    )


def _written(record: Record) -> bytes:
    try:
        data = record.model_dump_json(by_alias=True).encode()
    except ValueError:  # blocks nested too deep for JSON: better without them than not at all
        data = without_blocks(record).model_dump_json(by_alias=True).encode()
    return b'%b,"crc":"%08x"}' % (data[:-1], crc32(data))


def summed(data: bytes) -> bytes:
    """Return a record's JSON without its checksum, or nothing where it has changed since.

    Earlier versions wrote none.
    """
    data = data.removeprefix(_BOM)
    told = _SUM.search(data, max(0, len(data) - _SUM_BYTES))
    if told is None:
        return data
    data = data[:-_SUM_BYTES] + b"}"
    return data if crc32(data) == int(told[1], 16) else b""
