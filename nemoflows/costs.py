"""Tokens to money: one call's price, and the ledger as a fold over calls."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from nemoflows.calls import Usage
from nemoflows.models import BATCHED, FREE, Endpoint
from nemoflows.types import ModelRef, Value


def price_usd(model: ModelRef, endpoint: Endpoint, usage: Usage, *, at_s: float) -> float | None:
    """Return what a call cost in USD, or None where nobody knows.

    Args:
        at_s: Unix time of the request; prices change.

    Source:
        Own price of the endpoint where declared, else the table of the package genai-prices.
    """
    if endpoint.usd_per_mtok is not None:
        input_usd, output_usd = endpoint.usd_per_mtok
        n_input = usage.all_input_tokens
        return (n_input * input_usd + usage.output_tokens * output_usd) / 1e6
    if endpoint.dialect in FREE:
        return 0.0
    if not endpoint.price_key:
        return None
    batch = endpoint.dialect in BATCHED
    return _table_usd(model.name, endpoint.price_key, usage, at_s, batch=batch)


def _table_usd(name: str, provider: str, usage: Usage, at_s: float, *, batch: bool) -> float | None:
    import genai_prices

    at = datetime.fromtimestamp(at_s, tz=UTC)
    try:
        tokens = genai_prices.Usage(
            input_tokens=usage.all_input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        found = genai_prices.calc_price(
            tokens,
            name,
            provider_id=provider,
            genai_request_timestamp=at,
            # Another spelling, such as the API's own service_tier, is passed over in silence.
            price_context={"processing": "batch"} if batch else None,
        )
    except (LookupError, ValueError, ArithmeticError):  # unknown, or usage that it finds odd
        return None
    return float(found.total_price)


class Spent(Value):
    """One call as the ledger sees it."""

    key: str
    purpose: str
    model: str
    usage: Usage
    usd: float | None
    replayed: bool
    seconds: float = 0.0


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
