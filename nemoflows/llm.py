"""The one door to a model: replay or call, price, record, check.

The order is fixed and is the product's promise: (1) replay, (2) single flight, (3) budget,
(4) an intent before each attempt, (5) call, (6) record before anything reads the reply, (7) settle
and receipt, (8) check, and ask once more where the check fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from nemoflows import costs, prompts
from nemoflows.asks import UNUSABLE, Ask, Done, Failed, read_outcome, refuse_too_many
from nemoflows.calls import Answered, Attempt, Outcome, Request, Unanswered, Unusable
from nemoflows.engines.protocol import Engine, OnAttempt, Resumes, Vectors
from nemoflows.engines.registry import Engines
from nemoflows.errors import OverBudget
from nemoflows.journal import Intent, Journal, Record, Uncertain
from nemoflows.journal.stores import open_store
from nemoflows.memory import Memory
from nemoflows.models import Endpoint
from nemoflows.runway import Runway
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

T = TypeVar("T")


NO_SECOND = frozenset({"rejected", "too_long"})
"""Ends of a second ask that say nothing better than the first one's: that was paid and counts."""


class Budget(Protocol):
    """What the door asks before a call and tells after it."""

    async def reserve(self, request: Request) -> float:
        """Wait until the call's worst case fits, and return it in USD; raise OverBudget."""

    def settle(self, reserved_usd: float, usd: float | None) -> None:
        """Replace a reservation by what the call cost."""


class NoBudget:
    """Lets every call through: the default, until a run names a limit."""

    async def reserve(self, request: Request) -> float:  # noqa: ARG002  (the protocol's shape)
        """Reserve nothing."""
        return 0.0

    def settle(self, reserved_usd: float, usd: float | None) -> None:
        """Settle nothing."""


Progress = Callable[[int, int], None]
"""Told how many of how many items are finished."""


class Door:
    """Asks models. One per process: it holds the single flights and the calls made so far."""

    def __init__(
        self,
        engines: Engines,
        journal: Journal,
        *,
        settings: Settings,
        budget: Budget | None = None,
        many_processes: bool = False,
    ) -> None:
        """Take the engines and the journal to stand between.

        Args:
            engines: Ways to models.
            journal: Where calls are recorded.
            settings: The environment's part.
            budget: What a call must fit; None lets every call through.
            many_processes: A run is many processes, as on a cluster: what any of them paid for
                this run counts as paid now.
        """
        self.engines, self.journal, self.settings = engines, journal, settings
        engines.notes = open_store(journal.root) if journal.root else None
        self.memory = Memory(journal, many_processes=many_processes)
        self.budget: Budget = budget or NoBudget()
        self._flights: dict[str, asyncio.Task[Outcome]] = {}
        self.runway = Runway(settings.concurrency)
        self._contexts: dict[str, int | None] = {}
        self._checking = asyncio.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._waiting: dict[str, int] = {}
        """How many wait for each call under way."""
        self._made: dict[str, int] = {}
        """Attempts announced so far of keys that were asked and not answered."""

    @property
    def spent(self) -> list[costs.Spent]:
        """Return the calls of this process so far, replays included."""
        return self.memory.spent

    async def preflight(self, *models: ModelRef) -> None:
        """Check, without paying, that the models can be asked; each once per process."""
        for model in models:
            if str(model) in self._contexts:
                continue
            async with self._checking:
                if str(model) not in self._contexts:
                    self._contexts[str(model)] = await self.engines.of(model).preflight(model)

    async def context_tokens(self, model: ModelRef) -> int | None:
        """Return the context of a model that was checked; None where nobody knows."""
        await self.preflight(model)
        return self._contexts[str(model)]

    def is_recorded(self, request: Request) -> bool:
        """Return whether a request's outcome can be replayed."""
        engine = self.engines.of(request.model)
        return engine.paid and self.journal.outcome(self._key(engine, request)) is not None

    async def ask(self, ask: Ask[T]) -> Done[T] | Failed:
        """Return the value of one request, asking once more where its reply cannot be used.

        Where that cannot be used either, further samples are asked for, as many as the ask allows.
        """
        calls: list[str] = []
        result = await self._twice(ask, ask.request, calls)
        for number in range(1, ask.retry_unusable + 1):
            if isinstance(result, Done) or result.reason not in UNUSABLE:
                break
            sample = ask.request.sample + number
            other = ask.request.model_copy(update={"sample": sample})
            result = await self._twice(ask, other, calls)
        return result

    async def _twice(self, ask: Ask[T], request: Request, calls: list[str]) -> Done[T] | Failed:
        outcome = await self._outcome(request, calls)
        read = read_outcome(ask.check, outcome, final=False)
        again = _second(request, outcome, read) if isinstance(read, Failed) else None
        if again is not None:
            outcome = await self._outcome(again, calls)
            second = read_outcome(ask.check, outcome, final=True)
            if not (isinstance(second, Failed) and second.reason in NO_SECOND):
                read = second
        if isinstance(read, Failed):
            return Failed(read.reason, read.detail, read.transient, calls)
        return Done(read.value, calls)

    async def batch(
        self,
        asks: Sequence[Ask[T]],
        *,
        max_failed: float = 0.5,
        progress: Progress | None = None,
    ) -> list[Done[T] | Failed]:
        """Return one result per request, in order; a failure is data.

        Args:
            max_failed: Share of failed items above which the batch fails as a whole.
            progress: Called as items finish.

        Raises:
            TooManyFailures: More failed; every finished item is recorded all the same.
        """
        done = 0

        async def one(ask: Ask[T]) -> Done[T] | Failed:
            nonlocal done
            result = await self.ask(ask)
            done += 1
            if progress:
                progress(done, len(asks))
            return result

        # A task per item costs as much as a replay does, so recorded items get none.
        near = self.memory.near
        results: list[Done[T] | Failed | None] = [
            self._replayed(ask) if near else None for ask in asks
        ]
        waiting = [n for n, result in enumerate(results) if result is None]
        done = len(asks) - len(waiting)
        live = await together([one(asks[n]) for n in waiting])
        for n, result in zip(waiting, live, strict=True):
            results[n] = result
        finished = [result for result in results if result is not None]
        refuse_too_many([r for r in finished if isinstance(r, Failed)], len(asks), max_failed)
        return finished

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Return a unit vector per text; local embedders cost nothing and are not recorded."""
        return await self.engines.of(model).embed(model, texts, query=query)

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance per text; local rerankers cost nothing and are not recorded."""
        return await self.engines.of(model).rerank(model, query, texts)

    def calls(self, keys: Sequence[str]) -> list[costs.Spent]:
        """Return the calls behind `keys`, in order: this process's own, else the journal's."""
        return self.memory.calls(keys)

    def uncertain(self) -> list[Uncertain]:
        """Return the attempts of this run that may have been billed without a record."""
        return self.journal.uncertain()

    async def drain(self) -> None:
        """Send nothing from now on, and wait until what is in flight is recorded."""
        self.runway.close()
        self.engines.drain()
        await self.runway.land()

    def flush(self) -> None:
        """Write what waits to be written; every task does so at its end."""
        self.memory.flush()

    async def aclose(self) -> None:
        """Close the engines."""
        await self.engines.aclose()

    def _replayed(self, ask: Ask[T]) -> Done[T] | None:
        """Return an item's recorded value; None where anything is left to ask or to decide."""
        engine = self.engines.of(ask.request.model)
        if not engine.paid:
            return None
        key = self._key(engine, ask.request)
        record = self.memory.recall_now(key)
        read = read_outcome(ask.check, record.outcome, final=False) if record else None
        return Done(read.value, [key]) if isinstance(read, Done) else None

    async def _outcome(self, request: Request, calls: list[str]) -> Outcome:
        """Return a recorded outcome or a new one, and add the call's key to `calls`."""
        engine = self.engines.of(request.model)
        if not engine.paid:
            return await engine.complete(request, lambda _: None)
        key = self._key(engine, request)
        calls.append(key)
        if self.memory.near and (record := self.memory.recall_now(key)):
            return record.outcome
        return await self._single_flight(key, engine, request)

    @staticmethod
    def _key(engine: Engine, request: Request) -> str:
        return request.key(identity=engine.identity(request.model), adapter=engine.adapter)

    async def _single_flight(self, key: str, engine: Engine, request: Request) -> Outcome:
        """Share one call among all who ask for its key.

        A cancelled caller does not stop a call that is under way: it is paid. One that has not
        been made yet, and that nobody waits for any more, is not made.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._call(key, engine, request))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(flight)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    async def _call(self, key: str, engine: Engine, request: Request) -> Outcome:
        """Recall or make one call; everybody in this process who asks for its key shares it."""
        if not self.memory.near and (found := await self.memory.recall(key)):
            return found.outcome
        await self.preflight(request.model)
        try:
            reserved_usd = await self.budget.reserve(request)
        except OverBudget as error:
            return Unanswered(reason="over_budget", detail=error.message, transient=False)
        usd: float | None = 0.0
        attempts: list[Attempt] = []
        first = self._made.get(key, 0) + 1
        resumes = engine if isinstance(engine, Resumes) else None
        answered = False
        try:
            async with self.runway.flying(waits=resumes is not None):
                if key not in self._waiting:
                    raise asyncio.CancelledError
                started_s = time.time()
                report: OnAttempt = attempts.append
                if resumes is None:
                    await self.memory.begin(_begun(key, request, first))
                    report = self._reporter(key, request, attempts, first)
                outcome = await engine.complete(request, report)
                if not isinstance(outcome, Unanswered):
                    answered = True
                    record = self._record(key, request, outcome, started_s, attempts)
                    await self.memory.keep(record)
                    last = first + max(0, len(attempts) - 1)
                    self.memory.add(self.journal.end, _ended(key, last, "ok"))
                    usd = record.usd
                    if resumes is not None and self.journal.durable:
                        resumes.recorded(key)
        finally:
            if not answered and resumes is None:  # the last announced attempt was never made
                self._made[key] = first + len(attempts)
                self.memory.add(self.journal.end, _ended(key, self._made[key], "unsent"))
            self.budget.settle(reserved_usd, usd)
        return outcome

    def _reporter(
        self, key: str, request: Request, attempts: list[Attempt], first: int
    ) -> OnAttempt:
        """Return what the engine tells of each attempt: one that failed is followed by another."""

        def report(attempt: Attempt) -> None:
            attempts.append(attempt)
            if attempt.status != "ok":
                number = first + len(attempts) - 1
                self.memory.add(self.journal.end, _ended(key, number, attempt.status))
                self.memory.add(self.journal.begin, _begun(key, request, number + 1))

        return report

    def _record(
        self,
        key: str,
        request: Request,
        outcome: Answered | Unusable,
        started_s: float,
        attempts: list[Attempt],
    ) -> Record:
        reply, usd = outcome.reply, outcome.reply.usd
        if usd is None and reply.usage is not None:
            endpoint = self._endpoint(request.model)
            usd = costs.price_usd(request.model, endpoint, reply.usage, at_s=started_s)
        return Record(
            key=key,
            purpose=request.purpose,
            model=str(request.model),
            request=request,
            outcome=outcome,
            usd=usd,
            started_s=started_s,
            ended_s=time.time(),
            attempts=attempts,
            run=self.journal.run,
            writer=self.journal.writer,
        )

    def _endpoint(self, model: ModelRef) -> Endpoint:
        if model.endpoint not in self._endpoints:
            self._endpoints[model.endpoint] = self.settings.endpoint(model)
        return self._endpoints[model.endpoint]


def _begun(key: str, request: Request, number: int) -> Intent:
    model = str(request.model)
    return Intent("begun", key, number, time.time(), purpose=request.purpose, model=model)


def _ended(key: str, number: int, status: str) -> Intent:
    return Intent("ended", key, number, time.time(), status=status)


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; where one raises, the others are ended before it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _second(request: Request, outcome: Outcome, failed: Failed) -> Request | None:
    """Return what to ask after a failure: the error shown, or twice the room; None to give up."""
    if isinstance(outcome, Answered):
        return prompts.ask_again(request, reply_text=outcome.reply.text, error=failed.detail)
    if failed.reason == "truncated":
        return request.model_copy(update={"max_output_tokens": 2 * request.max_output_tokens})
    if failed.reason == "paused" and isinstance(outcome, Unusable):
        return prompts.go_on(request, outcome.reply)
    return None
