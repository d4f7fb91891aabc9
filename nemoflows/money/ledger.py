"""The ledger: what a run's calls cost, as a fold over them and never a second counter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nemoflows.calls import Usage
from nemoflows.types import Value


class Spent(Value):
    """One call as the ledger sees it."""

    key: str
    purpose: str
    model: str
    usage: Usage
    usd: float | None
    worst_usd: float | None = None
    """The most that it can have cost, where nobody knows what it did."""
    replayed: bool
    started_s: float = 0.0
    """Unix time."""
    seconds: float = 0.0
    prompt_bytes: int = 0
    reason: str = ""
    """Why its reply could not be used; empty where it could."""
    first_key: str = ""
    """Key of the first request that was asked for the same value: a second ask has another key."""
    task: str = ""
    """The task that used it; empty where nobody noted it."""
    tier: str = ""
    escalated: bool = False
    """Whether it looked again at what a cheaper tier gave up or was not sure of."""


class Ledger(Value):
    """Totals over distinct calls: what the work is worth and what was paid just now."""

    n_calls: int = 0
    n_replayed: int = 0
    n_unpriced: int = 0
    """Calls whose price nobody knows: the sums below leave them out, and say so."""
    n_in_doubt: int = 0
    """Attempts of the run that were cut off: whether they are billed, nobody knows."""
    in_doubt_usd: float | None = 0.0
    """The most that these can cost; None where nobody knows."""
    n_discarded: int = 0
    """Calls whose reply could not be used, or that were asked again."""
    discarded_usd: float = 0.0
    n_escalated: int = 0
    """Calls that looked again at what a cheaper tier gave up or was not sure of."""
    escalated_usd: float = 0.0
    n_unrecorded: int = 0
    """Calls that values name and no journal holds: nothing is known of them."""
    usage: Usage = Usage()
    usd: float = 0.0
    """Every distinct priced call once, whoever paid it."""
    paid_now_usd: float = 0.0
    """Of these, what this process paid; replays cost nothing."""

    def __str__(self) -> str:
        """Return the cost line of a run."""
        lost = f"; {self.n_unrecorded} calls were not recorded" if self.n_unrecorded else ""
        if self.n_in_doubt:
            most = f" (at most ${self.in_doubt_usd:.6f})" if self.in_doubt_usd else ""
            lost += f"; {self.n_in_doubt} attempts cut off, perhaps billed{most}"
        if not self.n_calls:
            return f"cost: unknown{lost}" if lost else "cost: $0 (no model was called)"
        unknown = f", {self.n_unpriced} of unknown price" if self.n_unpriced else ""
        return (
            f"cost: ${self.usd:.6f} for {self.n_calls} calls{unknown} "
            f"({self.usage.all_input_tokens} tokens in, {self.usage.output_tokens} out); "
            f"paid now ${self.paid_now_usd:.6f}, {self.n_replayed} replayed{lost}"
        )


class Group(Value):
    """What the calls of one task, purpose, tier and model come to."""

    task: str
    purpose: str
    tier: str
    model: str
    n_calls: int
    n_unpriced: int
    usd: float
    """Of the priced ones."""
    usage: Usage
    seconds: float
    """Of all calls, one after the other."""


def grouped(calls: Iterable[Spent], *, shadow: Collection[str] = ()) -> list[Group]:
    """Return the groups of distinct calls, in the order in which they first came.

    Args:
        shadow: Keys of calls that only measure; their tier is told as `shadow`.
    """
    groups: dict[tuple[str, str, str, str], list[Spent]] = {}
    for call in distinct(calls):
        tier = "shadow" if call.key in shadow else call.tier
        groups.setdefault((call.task, call.purpose, tier, call.model), []).append(call)
    return [
        Group(
            task=task,
            purpose=purpose,
            tier=tier,
            model=model,
            n_calls=len(own),
            n_unpriced=sum(call.usd is None for call in own),
            usd=sum(call.usd or 0.0 for call in own),
            usage=sum((call.usage for call in own), Usage()),
            seconds=sum(call.seconds for call in own),
        )
        for (task, purpose, tier, model), own in groups.items()
    ]


def distinct(calls: Iterable[Spent]) -> list[Spent]:
    """Return each key's call once; it counts as replayed only if it was never paid here."""
    found: dict[str, Spent] = {}
    for call in calls:
        if call.key not in found or not call.replayed:
            found[call.key] = call
    return list(found.values())


def discarded(calls: Sequence[Spent]) -> set[str]:
    """Return the keys of calls whose reply was not used: no good, or asked again."""
    last = {call.first_key or call.key: call.key for call in calls}
    return {c.key for c in calls if c.reason or last[c.first_key or c.key] != c.key}


def fold(
    calls: Iterable[Spent],
    *,
    n_unrecorded: int = 0,
    n_in_doubt: int = 0,
    in_doubt_usd: float | None = 0.0,
) -> Ledger:
    """Add up calls, each key once."""
    own = distinct(calls)
    gone = discarded(own)
    again = [call for call in own if call.escalated]
    return Ledger(
        n_calls=len(own),
        n_replayed=sum(call.replayed for call in own),
        n_unpriced=sum(call.usd is None for call in own),
        n_unrecorded=n_unrecorded,
        n_in_doubt=n_in_doubt,
        in_doubt_usd=in_doubt_usd,
        n_discarded=len(gone),
        discarded_usd=_sum(call for call in own if call.key in gone),
        n_escalated=len(again),
        escalated_usd=_sum(again),
        usage=sum((call.usage for call in own), Usage()),
        usd=_sum(own),
        paid_now_usd=_sum(call for call in own if not call.replayed),
    )


def total(prices: Sequence[float | None]) -> float | None:
    """Return the sum; None where one of them is unknown."""
    return None if None in prices else sum(price or 0.0 for price in prices)


def _sum(calls: Iterable[Spent]) -> float:
    return sum(call.usd or 0.0 for call in calls)
