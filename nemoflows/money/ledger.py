"""The ledger: what a run's calls cost, as a fold over them and never a second counter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nemoflows.calls import Usage
from nemoflows.types import Value

SMALLEST_USD = 0.000001
"""Smallest amount that is told in digits."""


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
    n_unusable: int = 0
    """Calls whose reply could not be used; they count among those discarded."""
    n_discarded: int = 0
    """Calls whose reply could not be used, or that were asked again."""
    discarded_usd: float = 0.0
    n_escalated: int = 0
    """Calls that looked again at what a cheaper tier gave up or was not sure of."""
    escalated_usd: float = 0.0
    n_shadow: int = 0
    """Calls that only measured; none of the figures here counts them."""
    shadow_usd: float | None = 0.0
    """What these cost; None where nobody knows."""
    n_unrecorded: int = 0
    """Calls that values name and no journal holds: nothing is known of them."""
    usage: Usage = Usage()
    usd: float = 0.0
    """Every distinct priced call once, whoever paid it."""
    paid_now_usd: float = 0.0
    """Of these, what this process paid; replays cost nothing."""
    n_unpriced_now: int = 0
    """Of the calls of unknown price, those that this process paid."""
    overhead_usd: float = 0.0
    """What GPUs cost beside the calls: starting, loading, waiting; not in the sums above."""

    @property
    def paid_now(self) -> str:
        """Return what this process paid, in words; where the price of some is unknown, so."""
        return priced(self.paid_now_usd, self.n_calls - self.n_replayed, self.n_unpriced_now)

    def __str__(self) -> str:
        """Return the cost line of a run: what is unknown is said, and never told as 0."""
        lost = ""
        if n := self.n_unrecorded:
            lost = f"; {counted(n, 'call')} {'was' if n == 1 else 'were'} not recorded"
        if self.n_unusable:
            lost += f"; {counted(self.n_unusable, 'reply', 'replies')} could not be used"
        if self.n_in_doubt:
            most = f" (at most {usd(self.in_doubt_usd)})" if self.in_doubt_usd else ""
            lost += f"; {counted(self.n_in_doubt, 'attempt')} cut off, perhaps billed{most}"
        if self.n_shadow:
            lost += f"; shadow sample: {counted(self.n_shadow, 'call')}, {usd(self.shadow_usd)}"
        gpus = f"{usd(self.overhead_usd)} of GPU time beside" if self.overhead_usd else ""
        if gpus and not self.n_calls:
            return f"cost: {gpus} calls, of which there are none{lost}"
        if not self.n_calls:
            return f"cost: unknown{lost}" if lost else "cost: $0 (no model was called)"
        tokens = f"{self.usage.all_input_tokens} tokens in, {self.usage.output_tokens} out"
        calls, replayed = counted(self.n_calls, "call"), f"{self.n_replayed} replayed{lost}"
        if self.n_unpriced == self.n_calls:
            return f"cost: unknown ({calls} of unknown price; {tokens}); {replayed}"
        unknown = f", {self.n_unpriced} of unknown price" if self.n_unpriced else ""
        least = "at least " if self.n_unpriced else ""
        beside = f" and {gpus} {'it' if self.n_calls == 1 else 'them'}" if gpus else ""
        return (
            f"cost: {least}{usd(self.usd + self.overhead_usd)} for {calls}{unknown}{beside} "
            f"({tokens}); paid now {self.paid_now}, {replayed}"
        )


def usd(amount: float | None) -> str:
    """Return an amount as a person reads it: never 0 for what is unknown or merely small."""
    if amount is None:
        return "unknown"
    size = abs(amount)
    if size >= 1:
        digits = f"${size:,.2f}"
    elif size >= SMALLEST_USD:
        whole = f"{size:.6f}".rstrip("0")
        digits = f"${whole + '0' * max(0, 4 - len(whole))}"
    else:
        digits = f"less than ${SMALLEST_USD:.6f}" if size else "$0"
    return f"-{digits}" if amount < 0 else digits


def priced(amount: float, n_calls: int, n_unpriced: int) -> str:
    """Return what calls cost; where the price of some is unknown, that it is more."""
    if n_unpriced == n_calls and n_calls:
        return "unknown"
    return f"at least {usd(amount)}" if n_unpriced else usd(amount)


def counted(n: int, thing: str, things: str = "") -> str:
    """Return a number of things in words: 1 call, 2 calls."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


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
    shadow: Sequence[Spent] = (),
    overhead_usd: float = 0.0,
) -> Ledger:
    """Add up calls, each key once.

    Args:
        shadow: Calls that only measured, which are no part of the run's work.
        overhead_usd: What GPUs cost beside the calls.
    """
    own, measuring = distinct(calls), distinct(shadow)
    gone = discarded(own)
    again = [call for call in own if call.escalated]
    return Ledger(
        n_calls=len(own),
        n_replayed=sum(call.replayed for call in own),
        n_unpriced=sum(call.usd is None for call in own),
        n_unrecorded=n_unrecorded,
        n_in_doubt=n_in_doubt,
        in_doubt_usd=in_doubt_usd,
        n_shadow=len(measuring),
        shadow_usd=total([call.usd for call in measuring]),
        n_unusable=sum(bool(call.reason) for call in own),
        n_discarded=len(gone),
        discarded_usd=_sum(call for call in own if call.key in gone),
        n_escalated=len(again),
        escalated_usd=_sum(again),
        usage=sum((call.usage for call in own), Usage()),
        usd=_sum(own),
        paid_now_usd=_sum(call for call in own if not call.replayed),
        n_unpriced_now=sum(call.usd is None and not call.replayed for call in own),
        overhead_usd=overhead_usd,
    )


def total(prices: Sequence[float | None]) -> float | None:
    """Return the sum; None where one of them is unknown."""
    return None if None in prices else sum(price or 0.0 for price in prices)


def _sum(calls: Iterable[Spent]) -> float:
    return sum(call.usd or 0.0 for call in calls)
