"""What calls may cost: reserved before a call at its worst, settled after it, never exceeded.

A budget bounds the *work* of a step: each distinct call counts once at its recorded price, whoever
paid for it, and an attempt that was cut off counts at its reservation, for it may be billed. So a
run that was killed and started again decides as if it had gone through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from nemoflows.errors import OverBudget
from nemoflows.money.ledger import counted
from nemoflows.types import Tier


class Budget:
    """A cap in USD; what is settled and what is reserved together never exceed it."""

    def __init__(
        self,
        cap_usd: float | None = None,
        *,
        used: Mapping[str, tuple[float | None, float | None]] | None = None,
        in_doubt_usd: float = 0.0,
    ) -> None:
        """Take the cap, and the work that counts before the first call.

        Args:
            cap_usd: Most that the work may cost; None is without end, and then nothing waits.
            used: Key → price of calls that were made before, and the most that it can be; None is
                what nobody knows.
            in_doubt_usd: Reservations of attempts that were cut off before.
        """
        self.cap_usd = cap_usd
        self.in_doubt_usd = in_doubt_usd
        self.reserved_usd = 0.0
        self.settled_usd = 0.0
        self.n_unpriced = 0
        self._used: set[str] = set()
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        for key, (usd, worst_usd) in (used or {}).items():
            self.count(key, usd, worst_usd)

    @property
    def used_usd(self) -> float:
        """Return what counts for good: settled calls, and attempts that may be billed."""
        return self.settled_usd + self.in_doubt_usd

    async def reserve(self, usd: float | None) -> float:
        """Wait, first come first served, until a call's worst case fits, and return it.

        Raises:
            OverBudget: It cannot fit, even when everything reserved is settled at nothing.
        """
        if self.cap_usd is None:
            return usd or 0.0
        worst = self._possible(usd)
        if self._waiting or not self._fits(worst):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((worst, turn))
            self._admit()
            try:
                await turn
            except asyncio.CancelledError:
                self._leave(worst, turn)
                raise
            return worst
        self.reserved_usd += worst
        return worst

    def reserve_now(self, usd: float) -> None:
        """Reserve without waiting: for another attempt of a call whose last one was cut off.

        Raises:
            OverBudget: It does not fit at this moment.
        """
        if self.cap_usd is not None and not self._fits(usd):
            raise self._refusal(usd)
        self.reserved_usd += usd

    def keep(self, reserved_usd: float) -> None:
        """Turn a reservation into an expense: the attempt was cut off and may be billed."""
        self.reserved_usd -= reserved_usd
        self.in_doubt_usd += reserved_usd

    def settle(self, reserved_usd: float) -> None:
        """Give a reservation back; `count` has told what the call cost."""
        self.reserved_usd = max(0.0, self.reserved_usd - reserved_usd)
        self._admit()

    def count(self, key: str, usd: float | None, worst_usd: float | None = None) -> None:
        """Add a call's recorded price; a key counts once, however often it is used.

        Args:
            usd: None where nobody knows it, as where a server's own count cannot be true.
            worst_usd: The most that it can be, which then counts.
        """
        if key not in self._used:
            self._used.add(key)
            self.n_unpriced += usd is None and worst_usd is None
            self.settled_usd += usd or 0.0
            self.in_doubt_usd += worst_usd or 0.0 if usd is None else 0.0

    def _possible(self, usd: float | None) -> float:
        if usd is None:
            raise OverBudget(
                "The most that this call can cost is unknown, and nothing of unknown price is "
                "asked under a budget. Give its endpoint a price_key, usd_per_mtok, or "
                "usd_per_gpu_hour with tokens_per_s."
            )
        if self.n_unpriced or self._never_fits(usd):
            raise self._refusal(usd)
        return usd

    def _fits(self, usd: float) -> bool:
        taken = self.used_usd + self.reserved_usd
        return self.cap_usd is None or taken + usd <= self.cap_usd + ROUNDING_USD

    def _never_fits(self, usd: float) -> bool:
        return self.cap_usd is not None and self.used_usd + usd > self.cap_usd + ROUNDING_USD

    def _admit(self) -> None:
        """Let those in front go on: the first that fits, or that can never fit."""
        while self._waiting:
            usd, turn = self._waiting[0]
            never = self._never_fits(usd) or self.n_unpriced > 0
            if not never and not self._fits(usd):
                return
            self._waiting.popleft()
            if turn.done():
                continue
            if never:
                turn.set_exception(self._refusal(usd))
            else:
                self.reserved_usd += usd
                turn.set_result(None)

    def _leave(self, usd: float, turn: asyncio.Future[None]) -> None:
        """Undo what a caller that was cancelled asked for, whether it had its turn or not."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.settle(usd)
        else:
            self._waiting = deque(each for each in self._waiting if each[1] is not turn)
            self._admit()

    def _refusal(self, usd: float) -> OverBudget:
        lost = (
            f", ${self.in_doubt_usd:.6f} by attempts cut off or of unknown price"
            if self.in_doubt_usd
            else ""
        )
        held = (
            f", ${self.reserved_usd:.6f} reserved by calls in flight" if self.reserved_usd else ""
        )
        unknown = (
            f", and {counted(self.n_unpriced, 'call')} of unknown price" if self.n_unpriced else ""
        )
        return OverBudget(
            f"Of the budget of ${self.cap_usd:.6f}, ${self.settled_usd:.6f} is used{lost}{held}"
            f"{unknown}; this call may cost up to ${usd:.6f}. It was not made. Raise budget_usd "
            "and start the same run again: what was answered is not paid again."
        )


ROUNDING_USD = 1e-12
"""Sums of prices differ by this much with their order."""


@dataclass(frozen=True, slots=True)
class Account:
    """On whose account a call is made: a task's, of a tier, within a budget."""

    task: str = ""
    tier: Tier = ""
    budget: Budget = field(default_factory=Budget)
    scope: str = ""
    """What tells this work from other work of the run, the same after a restart."""
    escalated: bool = False
    """Whether it looks again at what a cheaper tier gave up or was not sure of."""
