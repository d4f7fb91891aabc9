"""The one door to a model: replay or call, price, record, check.

The order is fixed and is the product's promise: (1) replay, (2) single flight, (3) budget,
(4) an intent before each attempt, (5) call, (6) record before anything reads the reply, (7) settle
and receipt, (8) check, and ask once more where the check fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from nemoflows.calls import Answered, Outcome, Request, Unanswered, Unusable, wire
from nemoflows.engines.protocol import Engine, Limits, OnAttempt, Resumes, Vectors
from nemoflows.engines.registry import Engines
from nemoflows.errors import NemoflowsError, OverBudget
from nemoflows.journal import Journal, Record, Recorded, Uncertain
from nemoflows.journal.stores import open_store
from nemoflows.llm.call import Flight
from nemoflows.llm.concurrency import together
from nemoflows.llm.gpu_meter import GpuMeters
from nemoflows.llm.history import Memory, Use
from nemoflows.llm.in_flight import Runway
from nemoflows.llm.results import OVER, UNUSABLE, Ask, Done, Failed, read_outcome, refuse_too_many
from nemoflows.models import Endpoint
from nemoflows.models.catalogue import can_think
from nemoflows.money import ledger, prices
from nemoflows.money.budgets import Account, Budget
from nemoflows.money.gpu_time import GpuUse
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

T = TypeVar("T")


NO_SECOND = frozenset({"rejected", "too_long"})
"""Ends of a second ask that say nothing better than the first one's: that was paid and counts."""


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
        many_processes: bool = False,
    ) -> None:
        """Take the engines and the journal to stand between.

        Args:
            engines: Ways to models.
            journal: Where calls are recorded.
            settings: The environment's part.
            many_processes: A run is many processes, as on a cluster: what any of them paid for
                this run counts as paid now.
        """
        self.engines, self.journal, self.settings = engines, journal, settings
        engines.notes = open_store(journal.root) if journal.root else None
        self.memory = Memory(journal, many_processes=many_processes)
        self._flights: dict[str, asyncio.Task[Recorded | Unanswered]] = {}
        self.runway = Runway(settings.concurrency)
        self._contexts: dict[str, int | None] = {}
        self._checking = asyncio.Lock()
        self._gpus = GpuMeters(journal, settings)
        self._endpoints: dict[str, Endpoint] = {}
        self._flying: dict[str, Budget] = {}
        """Within whose budget each call under way is made."""
        self._waiting: dict[str, int] = {}
        """How many wait for each call under way."""
        self._made: dict[str, int] = {}
        """Attempts announced so far of keys that were asked and not answered."""

    @property
    def spent(self) -> list[ledger.Spent]:
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

    def can_think(self, model: ModelRef) -> bool:
        """Return whether a model is known to think where it is told to."""
        return can_think(self._endpoint(model).dialect, model.name)

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
        outcome = await self._outcome(request, calls, ask.account)
        read = read_outcome(ask.check, outcome, final=False)
        again = _second(request, outcome, read) if isinstance(read, Failed) else None
        if again is not None:
            outcome = await self._outcome(again, calls, ask.account)
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

    def calls(self, keys: Sequence[str]) -> list[ledger.Spent]:
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
        self._gpus.note()
        self.memory.flush()

    def gpu_uses(self) -> list[GpuUse]:
        """Return what the GPUs of all processes of this run did."""
        return self._gpus.of_the_run()

    async def aclose(self) -> None:
        """Close the engines."""
        await self.engines.aclose()

    def worst_usd(self, request: Request) -> float | None:
        """Return the most that one attempt of a call can cost; None where nobody knows."""
        engine = self.engines.of(request.model)
        if not engine.paid:
            return 0.0
        limits = engine if isinstance(engine, Limits) else None
        return prices.worst_usd(
            request.model,
            self._endpoint(request.model),
            n_input=prices.most_input_tokens(request),
            n_output=limits.limit_tokens(request) if limits else request.limit_tokens,
            at_s=time.time(),
        )

    def _replayed(self, ask: Ask[T]) -> Done[T] | None:
        """Return an item's recorded value; None where anything is left to ask or to decide."""
        engine = self.engines.of(ask.request.model)
        if not engine.paid:
            return None
        key = self._key(engine, ask.request)
        record = self.memory.recall_now(key, Use(ask.account, key))
        read = read_outcome(ask.check, record.outcome, final=False) if record else None
        if record is None or not isinstance(read, Done):
            return None
        ask.account.budget.count(key, record.usd)
        return Done(read.value, [key])

    async def _outcome(self, request: Request, calls: list[str], account: Account) -> Outcome:
        """Return a recorded outcome or a new one, and add the key of a call made to `calls`."""
        engine = self.engines.of(request.model)
        if not engine.paid:
            return await engine.complete(request, lambda _: None)
        key = self._key(engine, request)
        calls.append(key)
        use = Use(account, calls[0])
        found: Recorded | Unanswered | None = None
        if self.memory.near:
            found = self.memory.recall_now(key, use)
        if found is None:
            found = await self._single_flight(Flight(key, engine, request, use))
        if isinstance(found, Unanswered):
            if not found.asked:
                calls.remove(key)
            return found
        account.budget.count(key, found.usd)
        return found.outcome

    @staticmethod
    def _key(engine: Engine, request: Request) -> str:
        return request.key(identity=engine.identity(request.model), adapter=engine.adapter)

    async def _single_flight(self, flight: Flight) -> Recorded | Unanswered:
        """Share one call among all who ask for its key.

        A cancelled caller does not stop a call that is under way: it is paid. One that has not
        been made yet, and that nobody waits for any more, is not made.
        """
        key = flight.key
        shared = self._flights.get(key)
        if shared is None:
            shared = asyncio.create_task(self._call(flight))
            self._flights[key] = shared
            self._flying[key] = flight.budget
            shared.add_done_callback(lambda _: self._flights.pop(key, None))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        asked_by = self._flying[key]
        try:
            found = await asyncio.shield(shared)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
        refused = isinstance(found, Unanswered) and found.reason == OVER
        if refused and asked_by is not flight.budget:  # another's budget says nothing of this one
            return await self._single_flight(flight)
        return found

    async def _call(self, flight: Flight) -> Recorded | Unanswered:
        """Recall or make one call; everybody in this process who asks for its key shares it."""
        if not self.memory.near and (found := await self.memory.recall(flight.key, flight.use)):
            return found
        await self.preflight(flight.request.model)
        flight.plan(self.worst_usd(flight.request), n_made=self._made.get(flight.key, 0))
        try:
            flight.held_usd = await flight.budget.reserve(flight.worst_usd)
            async with self.runway.flying(waits=isinstance(flight.engine, Resumes)):
                if flight.key not in self._waiting:
                    raise asyncio.CancelledError
                return await self._make(flight)
        except OverBudget as error:
            return Unanswered(
                reason="over_budget", detail=error.message, transient=False,
                asked=bool(flight.attempts),
            )  # fmt: skip
        finally:
            flight.budget.settle(flight.held_usd)

    async def _make(self, flight: Flight) -> Record | Unanswered:
        """Announce a call, ask the engine, and record what comes before anything reads it."""
        flight.started_s = time.time()
        if isinstance(flight.engine, Resumes):
            outcome = await self._complete(flight, flight.attempts.append)
            return outcome if isinstance(outcome, Unanswered) else await self._keep(flight, outcome)
        await self.memory.begin(flight.begun(flight.first))
        answered = False
        try:
            outcome = await self._complete(flight, flight.reporter(self.memory))
            if isinstance(outcome, Unanswered):
                return outcome
            answered = True
            return await self._keep(flight, outcome)
        except NemoflowsError:
            raise
        except Exception as error:
            if not answered:  # announced, and nobody knows how far it came
                with suppress(OverBudget):
                    flight.reporter(self.memory)(flight.broken(error))
            raise
        finally:
            if not answered:  # the last attempt that was announced was never made
                self._made[flight.key] = flight.first + len(flight.attempts)
                unsent = flight.ended(self._made[flight.key], "unsent")
                self.memory.add(self.journal.end, unsent)

    async def _keep(self, flight: Flight, outcome: Answered | Unusable) -> Record:
        record = flight.record(outcome, self.journal, self._endpoint(flight.request.model))
        flight.budget.count(flight.key, record.usd)
        await self.memory.keep(record, flight.use)
        ended = flight.ended(flight.last, "ok")
        if isinstance(flight.engine, Resumes):
            # Nothing announced it, so that this line alone tells a budget that it was made.
            await self.memory.begin(ended)
            if self.journal.durable:
                flight.engine.recorded(flight.key)
        else:
            self.memory.add(self.journal.end, ended)
        return record

    async def _complete(self, flight: Flight, report: OnAttempt) -> Outcome:
        """Ask the engine, and measure its GPU's time where that is what is paid for."""
        endpoint = self._endpoint(flight.request.model)
        if prices.by_gpu_time(endpoint):
            return await self._gpus.complete(flight, endpoint, report)
        return await flight.engine.complete(flight.request, report)

    def _endpoint(self, model: ModelRef) -> Endpoint:
        if model.endpoint not in self._endpoints:
            self._endpoints[model.endpoint] = self.settings.endpoint(model)
        return self._endpoints[model.endpoint]


def _second(request: Request, outcome: Outcome, failed: Failed) -> Request | None:
    """Return what to ask after a failure: the error shown, or twice the room; None to give up."""
    if isinstance(outcome, Answered):
        return wire.ask_again(request, reply_text=outcome.reply.text, error=failed.detail)
    if failed.reason == "truncated":
        return request.model_copy(update={"max_output_tokens": 2 * request.max_output_tokens})
    if failed.reason == "paused" and isinstance(outcome, Unusable):
        return wire.go_on(request, outcome.reply)
    return None
