"""One key while it is asked: who waits for it, its attempts, its record; how many at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from nemoflows.calls import (
    Answered,
    Attempt,
    Outcome,
    Reply,
    Request,
    Unanswered,
    Unusable,
    recover,
)
from nemoflows.engines.base import SENDING, Engine
from nemoflows.errors import NemoflowsError, OverBudget
from nemoflows.journal import Intent, Record, Recorded
from nemoflows.journal.records import NOT_SENT, is_in_doubt
from nemoflows.llm.history import CallHistory, Use
from nemoflows.models import Endpoint
from nemoflows.money import prices
from nemoflows.money.budgets import Budget

LAST_ATTEMPTS = frozenset({"cancelled", "deadline"})
"""Ends of attempts after which an engine makes no other."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Served:
    """A model with the way to it: what is the same for all its calls."""

    engine: Engine
    endpoint: Endpoint
    fingerprint: str
    spelling: str


@dataclass(slots=True)
class Call:
    """A call, for whoever in this process asks for its key while it is under way."""

    key: str
    served: Served
    request: Request
    use: Use
    """What it is used for by whoever asked first."""
    history: CallHistory
    worst_usd: float | None = None
    """The most that one attempt can cost; None where nobody knows."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Which of the process's calls it is: a key that was not answered may be asked again."""
    attempts: list[Attempt] = field(default_factory=list)
    n_waiting: int = 0
    reserved_usd: float = 0.0
    started_s: float = 0.0
    is_begun: bool = False
    """Whether an attempt is announced that has not ended."""
    is_answered: bool = False
    task: asyncio.Task[Recorded | Unanswered] = field(init=False)

    @property
    def budget(self) -> Budget:
        """Return the budget that the call is made within."""
        return self.use.account.budget

    @property
    def resumes(self) -> bool:
        """Return whether it goes on without this process: its engine's notes announce it."""
        return self.served.engine.resumes

    def read(self, came: Reply) -> Outcome:
        """Return what a recorded body of the engine's says."""
        return self.whole(self.served.engine.read(came))

    def whole(self, outcome: Outcome) -> Outcome:
        """Return what came, answered also where a limit cut only what stands behind the answer."""
        if isinstance(outcome, Unusable) and outcome.reason == "truncated":
            return recover.finished(outcome, self.request.json_schema)
        return outcome

    async def result(self) -> Recorded | Unanswered:
        """Wait for the outcome; a caller who is cancelled stops no call, for it is paid."""
        self.n_waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.n_waiting -= 1

    @asynccontextmanager
    async def reserved(self, worst_usd: float | None) -> AsyncIterator[None]:
        """Hold the most that an attempt can cost; None where nobody knows.

        Raises:
            OverBudget: It does not fit.
        """
        self.worst_usd = worst_usd
        self.reserved_usd = await self.budget.reserve(worst_usd)
        try:
            yield
        finally:
            self.budget.settle(self.reserved_usd)

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """Have each attempt announced before it is sent, and take back what was not sent.

        Raises:
            CancelledError: Nobody waits for the call any more, so that it is not made.
        """
        if not self.n_waiting:
            raise asyncio.CancelledError
        self.started_s = time.time()
        if self.resumes:
            yield
            return
        sending = SENDING.set(self.begin)
        if not self.served.engine.announces:
            await self.begin()
        try:
            yield
        except NemoflowsError:
            raise
        except Exception as error:
            if self.is_begun:  # announced, and nobody knows how far it came
                with suppress(OverBudget):
                    self.report(self._broken(error))
            raise
        finally:
            SENDING.reset(sending)  # which holds the call, and is held by its task
            if self.is_begun and not self.is_answered:
                self.history.end(self._ended(len(self.attempts) + 1, NOT_SENT))

    async def begin(self) -> None:
        """Announce an attempt; when this returns it may be sent, and is in doubt until it ends."""
        if self.is_begun:  # another part of the same attempt
            return
        try:
            await self.history.begin(self._begun())
        except BaseException:  # cancelled while the line was written: it may be there
            self.history.end(self._ended(len(self.attempts) + 1, NOT_SENT))
            raise
        self.is_begun = True

    def report(self, attempt: Attempt) -> None:
        """Take note of an attempt that ended; one that was never sent costs nothing.

        Raises:
            OverBudget: It may be billed, and another does not fit beside it.
        """
        self.attempts.append(attempt)
        if attempt.status == "ok" or not self.is_begun:
            return
        self.history.end(self._ended(len(self.attempts), attempt.status))
        self.is_begun = False
        if is_in_doubt(attempt.status):
            self._cut_off(again=attempt.status not in LAST_ATTEMPTS)
        if not self.served.engine.announces:
            self.history.begin_soon(self._begun())
            self.is_begun = True

    async def record(self, outcome: Answered | Unusable, gpu_s: float | None) -> Record:
        """Write down what came, and count it; when this returns the reply may be read.

        Args:
            gpu_s: The call's share of GPU time; None where that is not what is paid for.
        """
        self.is_answered = True
        record = self._recorded(outcome, gpu_s)
        self.budget.count(self.key, record.usd, record.worst_usd)
        await self.history.keep(record, self.use)
        ended = self._ended(max(1, len(self.attempts)), "ok")
        if self.served.engine.resumes:
            # Nothing announced it, so that this line alone tells a budget that it was made.
            await self.history.begin(ended)
            if self.history.journal.durable:
                self.served.engine.recorded(self.key)
        else:
            self.history.end(ended)
        return record

    def not_made(self, error: OverBudget) -> Unanswered:
        """Return the outcome of a call, or of a further attempt, that did not fit the budget."""
        return Unanswered(
            reason="over_budget",
            detail=error.message,
            transient=False,
            asked=bool(self.attempts),
        )

    def _cut_off(self, *, again: bool) -> None:
        """Count an attempt that may be billed, and reserve another where one may follow."""
        kept, self.reserved_usd = self.reserved_usd, 0.0
        self.budget.keep(kept)
        if again:
            self.budget.reserve_now(kept)
            self.reserved_usd = kept

    def _begun(self) -> Intent:
        return Intent(
            kind="begun",
            key=self.key,
            call=self.number,
            number=len(self.attempts) + 1,
            at_s=time.time(),
            purpose=self.request.purpose,
            model=self.served.spelling,
            scope=self.use.account.scope,
            reserved_usd=self.worst_usd,
        )

    def _ended(self, number: int, status: str) -> Intent:
        return Intent(
            kind="ended",
            key=self.key,
            call=self.number,
            number=number,
            at_s=time.time(),
            status=status,
            scope=self.use.account.scope,
        )

    def _broken(self, error: Exception) -> Attempt:
        """Return the attempt that an engine ended with an error, and told nothing of."""
        return Attempt(
            number=len(self.attempts) + 1,
            started_s=self.started_s,
            ended_s=time.time(),
            status=type(error).__name__,
        )

    def _recorded(self, outcome: Answered | Unusable, gpu_s: float | None) -> Record:
        request, reply, usd = self.request, outcome.reply, outcome.reply.usd
        if usd is None and gpu_s is not None:
            usd = prices.gpu_usd(self.served.endpoint, gpu_s)
        elif usd is None and reply.usage is not None:
            usd = prices.price_usd(
                request.model, self.served.endpoint, reply.usage, at_s=self.started_s
            )
        journal = self.history.journal
        return Record(
            key=self.key,
            purpose=request.purpose,
            model=self.served.spelling,
            request=request,
            outcome=outcome,
            usd=usd,
            worst_usd=self.worst_usd if usd is None else None,
            started_s=self.started_s,
            ended_s=time.time(),
            attempts=self.attempts,
            run=journal.run,
            prompt_bytes=prices.n_bytes(request),
            writer=journal.writer,
        )


class InFlightLimiter:
    """Lets so many calls be in flight at once, counts them, and waits until they have ended."""

    def __init__(self, most: int) -> None:
        """Take how many calls may be in flight at once."""
        self.most = most
        self.n_in_flight = 0
        """Calls that an engine has begun and not finished."""
        self._places = asyncio.Semaphore(most)
        self._open = asyncio.Event()
        self._open.set()
        self._ended = asyncio.Event()

    def close(self) -> None:
        """Let no call begin from now on."""
        self._open.clear()

    async def drain(self) -> None:
        """Wait until the calls in flight are recorded, whoever asked for them."""
        while self.n_in_flight:
            self._ended.clear()
            await self._ended.wait()

    @asynccontextmanager
    async def place(self, *, only_waits: bool = False) -> AsyncIterator[None]:
        """Count a call among those in flight, once there is a place for it.

        Args:
            only_waits: The call goes on without this process, so that it takes no place here and
                `drain` does not wait for it.
        """
        if only_waits:
            await self._open.wait()
            yield
            return
        async with self._places:
            await self._open.wait()
            self.n_in_flight += 1
            try:
                yield
            finally:
                self.n_in_flight -= 1
                self._ended.set()
