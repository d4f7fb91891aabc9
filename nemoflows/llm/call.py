"""One call under way: what is announced of it, what it may cost, what is recorded at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nemoflows.calls import Answered, Attempt, Request, Unusable
from nemoflows.engines.protocol import Engine, OnAttempt
from nemoflows.journal import Intent, Journal, Record
from nemoflows.journal.records import is_certain
from nemoflows.llm.history import Memory, Use
from nemoflows.models import Endpoint
from nemoflows.money import prices
from nemoflows.money.budgets import Budget

LAST_ATTEMPTS = frozenset({"cancelled", "deadline"})
"""Ends of attempts after which an engine makes no other."""


@dataclass(slots=True)
class Flight:
    """A call, for whoever asks for its key while it is under way."""

    key: str
    engine: Engine
    request: Request
    use: Use
    worst_usd: float | None = None
    """The most that one attempt can cost; None where nobody knows."""
    held_usd: float = 0.0
    """What is reserved for it just now."""
    started_s: float = 0.0
    first: int = 1
    """Number of its first attempt: those of earlier calls of the key come before."""
    attempts: list[Attempt] = field(default_factory=list)
    gpu_s: float | None = None
    """Its share of GPU time, where that is what is paid for."""

    def plan(self, worst_usd: float | None, *, n_made: int) -> None:
        """Take what an attempt can cost and how many were announced before."""
        self.worst_usd, self.first = worst_usd, n_made + 1

    @property
    def budget(self) -> Budget:
        """Return the budget that the call is made within."""
        return self.use.account.budget

    @property
    def last(self) -> int:
        """Return the number of the last attempt that ended."""
        return self.first + max(0, len(self.attempts) - 1)

    def begun(self, number: int) -> Intent:
        """Return the line that announces an attempt."""
        return Intent(
            "begun",
            self.key,
            number,
            time.time(),
            purpose=self.request.purpose,
            model=str(self.request.model),
            scope=self.use.account.scope,
            reserved_usd=self.worst_usd,
        )

    def ended(self, number: int, status: str) -> Intent:
        """Return the line that tells how an attempt ended."""
        scope = self.use.account.scope
        return Intent("ended", self.key, number, time.time(), status=status, scope=scope)

    def broken(self, error: Exception) -> Attempt:
        """Return the attempt that an engine ended with an error, and told nothing of."""
        return Attempt(
            number=len(self.attempts) + 1,
            started_s=self.started_s,
            ended_s=time.time(),
            status=type(error).__name__,
        )

    def reporter(self, memory: Memory) -> OnAttempt:
        """Return what the engine tells of each attempt: one that failed is followed by another.

        What it returns raises OverBudget where the attempt may be billed and another does not fit
        beside it.
        """

        def report(attempt: Attempt) -> None:
            self.attempts.append(attempt)
            if attempt.status == "ok":
                return
            memory.add(memory.journal.end, self.ended(self.last, attempt.status))
            if not is_certain(attempt.status):
                self._cut_off(again=attempt.status not in LAST_ATTEMPTS)
            memory.add(memory.journal.begin, self.begun(self.last + 1))

        return report

    def _cut_off(self, *, again: bool) -> None:
        """Count an attempt that may be billed, and reserve another where one may follow.

        Raises:
            OverBudget: Another does not fit beside it.
        """
        kept, self.held_usd = self.held_usd, 0.0
        self.budget.keep(kept)
        if again:
            self.budget.reserve_now(kept)
            self.held_usd = kept

    def record(self, outcome: Answered | Unusable, journal: Journal, endpoint: Endpoint) -> Record:
        """Return what is recorded of a reply."""
        request, reply, usd = self.request, outcome.reply, outcome.reply.usd
        if usd is None and self.gpu_s is not None:
            usd = prices.gpu_usd(endpoint, self.gpu_s)
        elif usd is None and reply.usage is not None:
            usd = prices.price_usd(request.model, endpoint, reply.usage, at_s=self.started_s)
        return Record(
            key=self.key,
            purpose=request.purpose,
            model=str(request.model),
            request=request,
            outcome=outcome,
            usd=usd,
            started_s=self.started_s,
            ended_s=time.time(),
            attempts=self.attempts,
            run=journal.run,
            prompt_bytes=prices.n_bytes(request),
            writer=journal.writer,
        )
