"""Claude through Message Batches: half the price, for work that can wait up to a day.

Requests that are asked at about the same time go out as one batch, named by their keys. What is
under way is written down beside the journal (`notes`), so that a process
that is started again picks its batches up: it polls those it knows the ids of, looks through the
API's list for one whose creation was cut off, and sends nothing anew meanwhile. Each outcome goes
to its caller as it is read. Requests that expired, or failed in a way that may pass, are sent once
more, alone.

A batch takes minutes as a rule and 24 hours at most, so `deadline_s` does not bound a call here: it
bounds each exchange with the API, and the time for which the API may be silent.

Covered: a kill at any instant, before, during and after each exchange; the requests are then paid
once by whoever asks for them again, with the same root and a key of the same workspace.

Not covered: two processes with one root that ask the same requests, where the store shows an
announcement later than `settle_s`, or one finishes between the other's look at the journal and at
the notes: both may pay. A batch whose creation was cut off and that the API lists only later. Two
machines of one host name. A reply that was billed and has another shape is not asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from time import monotonic
from typing import Any

from nemoflows.calls import Outcome, Request, Unanswered
from nemoflows.engines.anthropic.api import Batches, CreationInDoubtError, in_parts
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.anthropic.messages import to_arguments
from nemoflows.engines.anthropic.notes import BatchRegistry, Note
from nemoflows.engines.anthropic.read import Asked, Reader, Rows, fail, settle
from nemoflows.engines.anthropic.watch import Pauses, Watch
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.http.transport import MAX_ATTEMPTS
from nemoflows.models import Endpoint
from nemoflows.storage.store import Records

log = logging.getLogger(__name__)


class AnthropicBatch(Anthropic):
    """Claude models behind one address, asked in batches."""

    resumes = True

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str,
        deadline_s: float,
        concurrency: int = 64,
        notes: Records | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        """Take the address, and the place for notes; without one a restart pays again."""
        super().__init__(endpoint, name=name, deadline_s=deadline_s, concurrency=concurrency)
        self._batches = Batches(self)
        self._registry = BatchRegistry(notes, name)
        self._pauses = pauses or Pauses()
        self._watch = Watch(self._batches, self._registry, self._pauses)
        self._reader = Reader(self._batches, self._registry, self._watch)
        self._gathered: dict[str, Asked] = {}
        self._asked: dict[str, Asked] = {}
        self._last_s = 0.0
        self._works: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Go on: batches are not sent anew, and what is looked at costs nothing."""

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply together with whoever else asks now, and wait for the batch to end."""
        self.connect()  # importing the SDK takes seconds that are no quiet
        key = self.key(request)
        asked = self._asked.get(key)
        if asked is None:
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            arguments, notes = to_arguments(request)
            asked = self._asked[key] = Asked(key, arguments, notes, future)
            self._gather(asked)
        try:
            outcome = await asyncio.shield(asked.outcome)
        finally:
            for end in asked.ends:
                on_attempt(end)
        return outcome

    def recorded(self, key: str) -> None:
        """Learn that an outcome is in the journal; the last of a batch closes its note."""
        self._reader.recorded(key)

    async def aclose(self) -> None:
        """Close the connections; batches go on."""
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        self._watch.say_left_running()
        await super().aclose()

    def _gather(self, asked: Asked) -> None:
        if not self._gathered:
            self._start(self._collect())
        self._gathered[asked.key] = asked
        self._last_s = monotonic()

    async def _collect(self) -> None:
        """Wait until nobody asks any more, then see to all that was asked."""
        latest_s = monotonic() + self._pauses.gather_s
        while (left_s := min(self._last_s + self._pauses.quiet_s, latest_s) - monotonic()) > 0:  # noqa: ASYNC110  (a clock)
            await asyncio.sleep(left_s)
        rows, self._gathered = self._gathered, {}
        try:
            await self._again(asyncio.sleep(0), rows)
        except asyncio.CancelledError:
            for asked in rows.values():
                asked.outcome.cancel()
            raise
        finally:
            for key in rows:
                self._asked.pop(key, None)

    async def _see(self, rows: Rows) -> None:
        """See every request to its outcome: pick up what a batch holds, send the rest."""
        holding = self._registry.holding(rows)
        works = []
        for note in {note.name: note for note in holding.values()}.values():
            held = {key: rows[key] for key in rows if holding.get(key) is note}
            works.append(self._again(self._pick_up(note, held), held))
        free = [asked for key, asked in rows.items() if key not in holding]
        for part in in_parts(free, lambda asked: asked.arguments):
            sent = {asked.key: asked for asked in part}
            works.append(self._again(self._send(sent), sent))
        await asyncio.gather(*works)

    async def _again(self, work: Awaitable[None], rows: Rows) -> None:
        """Do `work`, and see to the requests that it left without an outcome."""
        try:
            await work
            left = {key: asked for key, asked in rows.items() if not asked.outcome.done()}
            if left:
                await self._see(left)
        except Exception as error:  # noqa: BLE001  (whoever waits learns of it)
            fail(rows, error)

    async def _send(self, rows: Rows) -> None:
        """Create a batch; what becomes of it is seen to by whoever finds its note."""
        newest_s = await self._batches.newest_s()
        if isinstance(newest_s, Unanswered):
            return settle(rows, newest_s)
        note = self._registry.announce(rows, newest_s)
        with self._registry.creating(note):
            if not await self._goes_first(note):
                return self._registry.withdraw(note)
            await self._create(note, rows)
        return None

    async def _goes_first(self, note: Note) -> bool:
        """Wait until it is known whether this process may create the batch it announced."""
        while True:
            await asyncio.sleep(self._pauses.settle_s)
            first = self._registry.goes_first(note, grace_s=self._watch.grace_s)
            if first is not None:
                return first

    async def _create(self, note: Note, rows: Rows) -> None:
        requests = [{"custom_id": key, "params": rows[key].arguments} for key in note.keys]
        try:
            made = await self._batches.create(requests)
        except CreationInDoubtError as error:
            return self._lost(rows, error)
        if isinstance(made, Unanswered):
            self._registry.withdraw(note)
            return settle(rows, made)
        self._registry.found(note, made)
        lost = (
            "" if self._registry.durable else " There is no journal, so a restart would pay again."
        )
        log.info(
            "Sent %d requests as batch %s at half price; it takes minutes as a rule and a day at "
            "most. If this process ends, run the same command again to pick it up.%s",
            len(rows),
            made,
            lost,
        )
        return None

    def _lost(self, rows: Rows, error: CreationInDoubtError) -> None:
        """Leave the note, so that the batch is looked for; give up after a few of them."""
        log.warning("%s It is looked for before anything is sent again.", error.message)
        for asked in rows.values():
            asked.n_lost += 1
            if asked.n_lost >= MAX_ATTEMPTS:
                asked.settle(Unanswered(reason="down", detail=error.message, transient=True))

    async def _pick_up(self, note: Note, rows: Rows) -> None:
        """Wait for a batch to end and hand out its outcomes; find it first where need be."""
        known = note if note.batch else await self._watch.adopt(note)
        if isinstance(known, Note):
            unseen = await self._watch.to_its_end(known)
            if unseen is None:
                await self._reader.read(known, rows)
                return
            known = unseen
        if known is not None:
            settle(rows, known)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
