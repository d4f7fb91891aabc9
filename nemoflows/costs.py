"""The ledger: what a run's calls cost, as a fold over them and never a second counter."""

from __future__ import annotations

from collections.abc import Iterable

from nemoflows.calls import Usage
from nemoflows.types import Value


class Spent(Value):
    """One call as the ledger sees it."""

    key: str
    purpose: str
    model: str
    usage: Usage
    usd: float | None
    replayed: bool
    started_s: float = 0.0
    """Unix time."""
    seconds: float = 0.0
    prompt_bytes: int = 0
    reason: str = ""
    """Why its reply could not be used; empty where it could."""
    step: str = ""
    """Key of the first request of the step that it belongs to: a second ask has another key."""
    task: str = ""
    """The task that used it; empty where nobody noted it."""
    tier: str = ""


class Ledger(Value):
    """Totals over distinct calls: what the work is worth and what was paid just now."""

    n_calls: int = 0
    n_replayed: int = 0
    n_unpriced: int = 0
    """Calls whose price nobody knows: the sums below leave them out, and say so."""
    n_uncertain: int = 0
    """Attempts of the run that were cut off: whether they are billed, nobody knows."""
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
        if self.n_uncertain:
            lost += f"; {self.n_uncertain} attempts cut off, perhaps billed"
        if not self.n_calls:
            return f"cost: unknown{lost}" if lost else "cost: $0 (no model was called)"
        unknown = f", {self.n_unpriced} of unknown price" if self.n_unpriced else ""
        return (
            f"cost: ${self.usd:.6f} for {self.n_calls} calls{unknown} "
            f"({self.usage.all_input_tokens} tokens in, {self.usage.output_tokens} out); "
            f"paid now ${self.paid_now_usd:.6f}, {self.n_replayed} replayed{lost}"
        )


def fold(calls: Iterable[Spent], *, n_unrecorded: int = 0, n_uncertain: int = 0) -> Ledger:
    """Add up calls, each key once; a key counts as replayed only if it was never paid here."""
    distinct: dict[str, Spent] = {}
    for call in calls:
        if call.key not in distinct or not call.replayed:
            distinct[call.key] = call
    total = Usage()
    for call in distinct.values():
        total = total + call.usage
    return Ledger(
        n_calls=len(distinct),
        n_replayed=sum(call.replayed for call in distinct.values()),
        n_unpriced=sum(call.usd is None for call in distinct.values()),
        n_unrecorded=n_unrecorded,
        n_uncertain=n_uncertain,
        usage=total,
        usd=sum(call.usd or 0.0 for call in distinct.values()),
        paid_now_usd=sum(call.usd or 0.0 for call in distinct.values() if not call.replayed),
    )
