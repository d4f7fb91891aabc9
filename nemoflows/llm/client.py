"""The one way to a model: replay or call, price, record, check.

The order is the product's promise; `complete` and `_answer` are that order, point by point.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from nemoflows.calls import Outcome, Request, Unanswered
from nemoflows.engines.base import Vectors
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadInput, OverBudget
from nemoflows.journal import InDoubt, Journal, Recorded
from nemoflows.llm.call import Call, InFlightLimiter, Served
from nemoflows.llm.concurrency import most_at_once, together
from nemoflows.llm.gpu_meter import GpuMeters
from nemoflows.llm.history import CallHistory, Use
from nemoflows.llm.results import (
    INVALID,
    OVER_BUDGET,
    UNUSABLE,
    CallSpec,
    Failure,
    Success,
    better,
    read_outcome,
    refuse_too_many,
    second_ask,
)
from nemoflows.models import Endpoint
from nemoflows.models.catalogue import can_think
from nemoflows.money import prices
from nemoflows.money.budgets import Account
from nemoflows.money.ledger import Spent
from nemoflows.progress import Progress
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

T = TypeVar("T")
BEGUN_PER_PLACE = 4
"""Calls of a batch that are begun for each that may be in flight: enough that none waits, and no
more, for all that is begun is searched for garbage again and again.

Source: chosen by benchmarks.overhead, in which 5,000 replays begun at once take a third more.
"""


class LLMClient:
    """Asks models. One per process: it holds the calls under way and the calls made so far."""

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
        self.history = CallHistory(journal, many_processes=many_processes)
        self.in_flight = InFlightLimiter(most_at_once(settings.concurrency))
        self._is_closed = False
        self._calls: dict[str, Call] = {}
        """The calls under way, by key; nothing of a call stays here once it has ended."""
        self._gpus = GpuMeters(journal, settings)
        self._contexts: dict[str, int | None] = {}
        self._checking = asyncio.Lock()
        self._models: dict[ModelRef, Served] = {}

    async def complete(self, spec: CallSpec[T]) -> Success[T] | Failure:
        """Return the value of one request; a failure is data."""
        keys: list[str] = []
        for number in range(spec.max_resamples + 1):
            request = spec.sample(number)
            outcome = await self._outcome(request, spec.account, keys)  # (1) to (7)
            read = read_outcome(spec, outcome, final=False)  # (8) check, and ask once more
            if again := second_ask(request, outcome, read):
                outcome = await self._outcome(again, spec.account, keys)
                read = better(read, read_outcome(spec, outcome, final=True))
            if isinstance(read, Failure) and read.reason == INVALID:
                self.history.unusable(keys)
            if isinstance(read, Success) or read.reason not in UNUSABLE:
                break
        return replace(read, calls=keys)

    async def _answer(self, call: Call) -> Recorded | Unanswered:
        """Answer a key for everybody who asks for it meanwhile: that is (2), the single flight."""
        try:
            if found := await self.history.recall(call.key, call.use, call.read):  # (1) replay
                return found
            await self.preflight(call.request.model)
            async with (
                call.reserved(self.worst_usd(call.request)),  # (3) reserve; (7) settle
                self.in_flight.place(only_waits=call.resumes),
                call.announced(),  # (4) announce each attempt, right before it is sent
            ):
                came, gpu_s = await self._ask(call)  # (5) call, with the engine's deadline
                outcome = call.whole(came)
                if isinstance(outcome, Unanswered):
                    return outcome
                return await call.record(outcome, gpu_s)  # (6) record; (7) receipt
        except OverBudget as error:
            return call.not_made(error)
        finally:
            del self._calls[call.key]

    async def _ask(self, call: Call) -> tuple[Outcome, float | None]:
        """Ask an engine; beside what came, the call's share of GPU time where that is its price."""
        engine, endpoint = call.served.engine, call.served.endpoint
        if endpoint.usd_per_gpu_hour is not None and endpoint.usd_per_mtok is None:
            return await self._gpus.complete(engine, call.request, endpoint, call.report)
        return await engine.complete(call.request, call.report), None

    async def _outcome(self, request: Request, account: Account, keys: list[str]) -> Outcome:
        """Return a recorded outcome or a new one, and add the key of a call made to `keys`."""
        served = self._served(request.model)
        if not served.engine.paid:
            return await served.engine.complete(request, lambda _: None)
        key = _key(served, request)
        use = Use(account, keys[0] if keys else key)
        found = await self._single_flight(key, served, request, use)
        if not isinstance(found, Unanswered):
            keys.append(key)
            account.budget.count(key, found.usd, found.worst_usd)
            return found.outcome
        if found.asked:
            keys.append(key)
        return found

    async def _single_flight(
        self, key: str, served: Served, request: Request, use: Use
    ) -> Recorded | Unanswered:
        """Return what a key gives, from the call that is under way or from a new one."""
        call = self._calls.get(key) or self._begun(key, served, request, use)
        try:
            found = await call.result()
        except asyncio.CancelledError:
            if call.task.cancelled():
                self._refuse_closed()
            raise
        refused = isinstance(found, Unanswered) and found.reason == OVER_BUDGET
        if refused and call.budget is not use.account.budget:  # another's says nothing of ours
            return await self._single_flight(key, served, request, use)
        return found

    def _begun(self, key: str, served: Served, request: Request, use: Use) -> Call:
        self._refuse_closed()
        call = Call(key, served, request, use, self.history)
        call.task = asyncio.create_task(self._answer(call))
        self._calls[key] = call
        return call

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise BadInput("The client is closed: ask within its `with` block. No call was made.")

    async def batch(
        self,
        specs: Sequence[CallSpec[T]],
        *,
        max_failed: float = 0.5,
        progress: Progress | None = None,
    ) -> list[Success[T] | Failure]:
        """Return one result per request, in order; a failure is data.

        Args:
            max_failed: Share of failed items above which the batch fails as a whole.
            progress: Called as items finish.

        Raises:
            TooManyFailures: More failed; every finished item is recorded all the same.
        """
        n_done = 0

        async def one(spec: CallSpec[T]) -> Success[T] | Failure:
            nonlocal n_done
            result = await self.complete(spec)
            n_done += 1
            if progress:
                progress(n_done, len(specs))
            return result

        results = await together((one(spec) for spec in specs), most=self._most(specs))
        refuse_too_many([r for r in results if isinstance(r, Failure)], len(specs), max_failed)
        return results

    def _most(self, specs: Sequence[CallSpec[T]]) -> int | None:
        """Return how many calls of a batch are begun at once; None where an engine gathers all."""
        gathers = any(self._served(spec.request.model).engine.resumes for spec in specs)
        return None if gathers else BEGUN_PER_PLACE * self.in_flight.most

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Return a unit vector per text; local embedders cost nothing and are not recorded."""
        return await self.engines.of(model).embed(model, texts, query=query)

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
        served = self._served(request.model)
        return served.engine.paid and self.journal.outcome(_key(served, request)) is not None

    def worst_usd(self, request: Request) -> float | None:
        """Return the most that one attempt of a call can cost; None where nobody knows."""
        engine, endpoint = self._served(request.model).engine, self._endpoint(request.model)
        if not engine.paid:
            return 0.0
        if not prices.has_price(endpoint):
            return None
        return prices.worst_usd(
            request.model,
            endpoint,
            n_input=prices.most_input_tokens(request),
            n_output=engine.limit_tokens(request),
            at_s=time.time(),
        )

    @property
    def spent(self) -> list[Spent]:
        """Return the calls of this process so far, replays included, each key once."""
        return self.history.spent

    def calls(self, keys: Sequence[str]) -> list[Spent]:
        """Return the calls behind `keys`, in order: this process's own, else the journal's."""
        return self.history.calls(keys)

    def in_doubt(self) -> list[InDoubt]:
        """Return the attempts of this run that may have been billed without a record."""
        return self.journal.in_doubt()

    async def drain(self) -> None:
        """Send nothing from now on, and wait until what is in flight is recorded."""
        self.in_flight.close()
        self.engines.drain()
        await self.in_flight.drain()

    async def land(self, within_s: float) -> None:
        """Let what is in flight be recorded, begin nothing more, and end what is left then."""
        self._is_closed = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self.drain(), within_s)
        left = [call.task for call in self._calls.values()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def flush(self) -> None:
        """Write what waits to be written; every task does so at its end."""
        if self._gpus.meters:
            self._gpus.note()
        self.history.flush()

    async def aclose(self) -> None:
        """Close the engines; whoever asks for a new call from now on is refused."""
        self._is_closed = True
        self._models.clear()
        self.history.close()
        await self.engines.aclose()

    def _served(self, model: ModelRef) -> Served:
        if model not in self._models:
            engine = self.engines.of(model)
            endpoint = self.settings.endpoint(model)
            fingerprint = engine.model_fingerprint(model)
            self._models[model] = Served(engine, endpoint, fingerprint, str(model))
        return self._models[model]

    def _endpoint(self, model: ModelRef) -> Endpoint:
        return self._served(model).endpoint


def _key(served: Served, request: Request) -> str:
    version = served.engine.wire_version
    return request.key(model_fingerprint=served.fingerprint, wire_version=version)
