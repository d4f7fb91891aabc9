"""Following a batch from its note to its end: adopt it where its creation was cut off, and poll.

Looking is free of charge, so that a look that fails is made again for as long as the API may be
silent; nothing is sent anew meanwhile.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from nemoflows.calls import Unanswered
from nemoflows.engines.anthropic.api import Batches, Listed
from nemoflows.engines.anthropic.notes import BatchRegistry, Note, may_be_alive

T = TypeVar("T")
log = logging.getLogger(__name__)

LIFE_S = 25 * 3600.0
"""Time after which a batch has ended. Source: 24 h (platform.claude.com), and one to be late."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait for what, in seconds."""

    quiet_s: float = 2.0
    """Time without a further request after which those gathered are sent."""
    gather_s: float = 30.0
    """Longest time that a request waits for others."""
    settle_s: float = 1.0
    """Between an announcement and a look for rivals: longer than a store takes to show one."""
    first_s: float = 2.0
    """Between the first two looks at a batch; each pause is half as long again."""
    longest_s: float = 60.0
    tell_s: float = 60.0
    """Between two lines of the log about one batch."""


class Watch:
    """Looks after the batches of one endpoint."""

    def __init__(self, batches: Batches, registry: BatchRegistry, pauses: Pauses) -> None:
        self._batches, self._registry, self._pauses = batches, registry, pauses
        self._transport = batches.transport
        self._running: dict[str, Note] = {}

    @property
    def grace_s(self) -> float:
        """Return the time that the writer of a note may take to create its batch."""
        return self._transport.deadline_s + self._pauses.settle_s

    async def to_its_end(self, note: Note) -> Unanswered | None:
        """Wait until a batch has ended; return why it could not be followed."""
        self._running[note.batch] = note
        atexit.register(self.say_left_running)
        ended = await self._until(lambda: self._has_ended(note), note)
        return ended if isinstance(ended, Unanswered) else None

    def read(self, note: Note) -> None:
        """Learn that a batch was read to its end."""
        self._running.pop(note.batch, None)

    async def adopt(self, note: Note) -> Note | Unanswered | None:
        """Find the batch of a note whose creation was cut off; None where there is none."""
        foreign = {other.batch for other in self._registry.open() if other.batch}
        found = await self._until(lambda: self._look_for(note, foreign), note)
        if isinstance(found, Unanswered):
            return found
        now = self._registry.again(note.name)
        if not found:
            if now is not None and not now.batch:
                self._registry.withdraw(note)
            return None
        log.info("Batch %s was created before a process ended; it is picked up.", found)
        return self._registry.found(now or note, found)

    async def _look_for(self, note: Note, foreign: set[str]) -> str | None:
        """Return the id of a note's batch, empty if it was never created; None is not yet known."""
        now = self._registry.again(note.name)
        if now is None or now.batch:
            return now.batch if now else ""
        listed = await self._batches.created_since(note.newest_s, note.n_rows)
        open_ones = [batch for batch in listed if batch.id not in foreign]
        for batch in open_ones:
            if batch.ended:
                if await self._batches.first_key(batch.id) in note.keys:
                    return batch.id
                foreign.add(batch.id)
        waits = any(not batch.ended for batch in open_ones)
        return None if waits or may_be_alive(note, grace_s=self.grace_s) else ""

    async def _has_ended(self, note: Note) -> Listed | None:
        listed = await self._batches.look(note.batch)
        return listed if listed.ended else None

    async def _until(self, look: Callable[[], Awaitable[T | None]], note: Note) -> T | Unanswered:
        """Look, free of charge, until something is seen; the pauses grow."""
        transport, pause_s = self._transport, self._pauses.first_s
        heard_s = told_s = monotonic()
        while True:
            seen = await transport.send(look, lambda _: None)
            if isinstance(seen, Unanswered):
                if not seen.transient or monotonic() - heard_s > transport.deadline_s:
                    return self.unseen(note, seen)
            elif seen is not None:
                return seen
            else:
                heard_s = monotonic()
            if time.time() - note.at_s > LIFE_S:
                return self.unseen(note, None)
            if monotonic() - told_s >= self._pauses.tell_s:
                told_s = monotonic()
                self._tell(note)
            await asyncio.sleep(pause_s)
            pause_s = min(self._pauses.longest_s, 1.5 * pause_s)

    def unseen(self, note: Note, last: Unanswered | None) -> Unanswered:
        """Return the outcome of requests whose batch could not be followed to its end."""
        what = last.detail if last else f"It had not ended after {LIFE_S / 3600:.0f} h."
        named = f"Batch {note.batch}" if note.batch else "A batch that may have been created"
        detail = (
            f"{named} holds this request and could not be read: {what} Nothing was sent again. "
            "Run the same command again, with a key of the workspace that sent the batch; to give "
            f"it up and pay anew, remove the note {note.name} below `batches` in the journal."
        )
        known = last or Unanswered(reason="deadline", detail="", transient=True)
        return known.model_copy(update={"detail": detail})

    def _tell(self, note: Note) -> None:
        waited_min = (time.time() - note.at_s) / 60
        log.info(
            "Batch %s (%d requests) is under way, %.0f min so far. Ctrl-C leaves it running; run "
            "the same command again to pick it up.",
            note.batch or "that may exist",
            note.n_rows,
            waited_min,
        )

    def say_left_running(self) -> None:
        """Say which batches go on without this process, each once."""
        atexit.unregister(self.say_left_running)
        while self._running:
            _, note = self._running.popitem()
            log.warning(
                "Batch %s (%d requests) is left running. Run the same command again to pick it up: "
                "nothing of it is paid twice. To stop it, cancel it in the Anthropic Console.",
                note.batch,
                note.n_rows,
            )
