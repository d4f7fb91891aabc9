"""Reading a batch that has ended: each outcome goes to whoever waits for it, as it is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nemoflows.calls import Attempt, Outcome, Unanswered
from nemoflows.engines.anthropic.api import Batches, read_row
from nemoflows.engines.anthropic.notes import BatchRegistry, Note
from nemoflows.engines.anthropic.watch import Watch

MAX_BATCHES = 2
"""Batches that one process sends a request in: the second one for what the first one left over."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request that waits for its outcome."""

    key: str
    arguments: dict[str, Any]
    notes: list[str]
    outcome: asyncio.Future[Outcome]
    ends: list[Attempt] = field(default_factory=list)
    """How each batch ended for it."""
    n_lost: int = 0
    """Times that its batch's creation was cut off."""

    def settle(self, outcome: Outcome) -> None:
        """Give the outcome to whoever waits for it, unless they have one or are gone."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


Rows: TypeAlias = Mapping[str, Asked]
"""Requests by key."""


class Reader:
    """Hands out the outcomes of one endpoint's batches."""

    def __init__(self, batches: Batches, registry: BatchRegistry, watch: Watch) -> None:
        self._batches, self._registry, self._watch = batches, registry, watch
        self._transport = batches.transport
        self._unrecorded: dict[str, Note] = {}
        self._left: dict[str, set[str]] = {}
        """Keys of a note, by its name, whose outcome the journal may not hold."""

    async def read(self, note: Note, rows: Rows) -> None:
        """Hand out the outcomes as they are read; those that there are none of are dropped."""
        self._left.setdefault(note.name, set(note.keys))
        dropped: set[str] = set()

        async def once() -> bool:
            async for row in self._batches.rows(note.batch):
                asked = rows.get(row.key)
                if asked is None or asked.outcome.done() or row.key in dropped:
                    continue
                status, outcome = read_row(row, asked.notes, note.batch, self._batches.api)
                if not self._hand_out(note, asked, status, outcome):
                    dropped.add(row.key)
                await asyncio.sleep(0)  # so that a disk holds its record before the next is read
            return True

        seen = await self._read_on(once, rows)
        missing = {key for key, asked in rows.items() if not asked.outcome.done()} - dropped
        if isinstance(seen, Unanswered):
            settle({key: rows[key] for key in missing}, self._watch.unseen(note, seen))
        else:
            self._watch.read(note)
            for key in missing:
                self._hand_out(note, rows[key], "missing", None)
            dropped |= missing
        if dropped:
            self._drop(note, dropped)

    async def _read_on(self, read: Callable[[], Awaitable[bool]], rows: Rows) -> bool | Unanswered:
        """Read, again where it broke off, for as long as that brings outcomes."""
        while True:
            n_done = sum(asked.outcome.done() for asked in rows.values())
            seen = await self._transport.send(read, lambda _: None)
            brought = sum(asked.outcome.done() for asked in rows.values()) > n_done
            if not (isinstance(seen, Unanswered) and seen.transient and brought):
                return seen

    def _drop(self, note: Note, keys: set[str]) -> None:
        self._left[note.name] -= keys
        self._registry.drop(note, keys)
        if not self._left[note.name]:
            self._registry.close(note)

    def _hand_out(self, note: Note, asked: Asked, status: str, outcome: Outcome | None) -> bool:
        """Settle a request, unless it is worth another batch; return whether the note's is done."""
        number = len(asked.ends) + 1
        asked.ends.append(
            Attempt(number=number, started_s=note.at_s, ended_s=time.time(), status=status)
        )
        if outcome is None and number >= MAX_BATCHES:
            detail = (
                f"{number} batches ended without a reply to this request, the last one "
                f"{note.batch} ({status}); neither was billed for it. Run the same command again."
            )
            outcome = Unanswered(reason="down", detail=detail, transient=True)
        if status == "ok":
            self._unrecorded[asked.key] = note
        if outcome is not None:
            asked.settle(outcome)
        return status == "ok"

    def recorded(self, key: str) -> None:
        """Learn that an outcome is in the journal; the last of a batch closes its note."""
        note = self._unrecorded.pop(key, None)
        if note is not None:
            self._left[note.name].discard(key)
            if not self._left[note.name]:
                self._registry.close(note)


def settle(rows: Rows, outcome: Outcome) -> None:
    """Give all that still wait the same outcome."""
    for asked in rows.values():
        asked.settle(outcome)


def fail(rows: Rows, error: Exception) -> None:
    """Raise an error at all that still wait."""
    for asked in rows.values():
        if not asked.outcome.done():
            asked.outcome.set_exception(error)
