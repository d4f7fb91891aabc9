"""What a run saved: the same steps on other models, with the ratio behind each figure.

A counterfactual counts each logical step once. A second ask after a reply that could not be used
is the same step; what the efficient tier tried before the frontier was asked would not have been.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pydantic import Field

from nemoflows.calls import Usage
from nemoflows.models import Endpoint
from nemoflows.money.intervals import LEAST_SAMPLES, Interval, ratio_interval, share_interval
from nemoflows.money.ledger import Spent
from nemoflows.money.prices import price_usd
from nemoflows.types import ModelRef, Policy, Value

SMALL = ModelRef(endpoint="anthropic", name="claude-haiku-5-5")
"""The small frontier model that an honest report holds the saving against: about as cheap as a
hosted open model of 120 billion parameters. Source: genai-prices 0.2.3, November 2026."""


class ShadowPair(Value):
    """One call of the efficient tier, and what the frontier answered to the same request."""

    key: str
    shadow: str
    """Key of the frontier's call."""
    purpose: str
    input_tokens: int
    output_tokens: int
    shadow_input_tokens: int
    shadow_output_tokens: int
    shadow_usd: float | None
    agreement: float
    """Share of terms that both replies have, 0 to 1."""
    at_s: float = 0.0
    """Unix time of the frontier's call."""


class ShadowSample(Value):
    """A share of the efficient tier's calls, asked of the frontier too."""

    share: float = 0.0
    n_calls: int = 0
    """Calls of the efficient tier that the share was drawn from."""
    pairs: list[ShadowPair] = Field(default_factory=list)
    budget_note: str = ""
    """Why fewer were asked than drawn: the budget's numbers."""

    @property
    def calls(self) -> list[str]:
        """Return the keys of the frontier's calls."""
        return [pair.shadow for pair in self.pairs]

    def __add__(self, other: ShadowSample) -> ShadowSample:
        """Return both samples as one."""
        return ShadowSample(
            share=max(self.share, other.share),
            n_calls=self.n_calls + other.n_calls,
            pairs=list({pair.key: pair for pair in [*self.pairs, *other.pairs]}.values()),
            budget_note=self.budget_note or other.budget_note,
        )


class Scenario(Value):
    """What the run's steps would have cost in another way."""

    name: str
    usd: float | None
    """None where a price is unknown."""
    low_usd: float | None = None
    high_usd: float | None = None
    """The interval of 95 %, where a large enough sample was measured."""
    basis: str
    """The ratio or the assumption behind it."""
    by_purpose: dict[str, float] = Field(default_factory=dict)


class Savings(Value):
    """The scenarios of a run, the run as it was first, and what quality was given up."""

    scenarios: list[Scenario] = Field(default_factory=list)
    agreement: float | None = None
    """Mean share of terms in which both tiers' replies agree; None where nothing was measured."""
    agreement_low: float | None = None
    agreement_high: float | None = None
    n_samples: int = 0


EndpointOf = Callable[[ModelRef], Endpoint]


def steps(calls: Sequence[Spent], superseded: Collection[str] = ()) -> list[Spent]:
    """Return the call that each logical step came down to, in order.

    Args:
        superseded: Keys of calls whose question went on to the next tier and was answered there.
    """
    last = {call.first_key or call.key: call for call in calls if call.key not in superseded}
    return list(last.values())


def is_frontier(call: Spent, policy: Policy) -> bool:
    """Return whether a call was the frontier's: by what its receipt says, else by its model."""
    if call.tier:
        return call.tier == "frontier"
    return call.model == str(policy.frontier)


def compare(
    calls: Sequence[Spent],
    policy: Policy,
    *,
    endpoint_of: EndpointOf,
    superseded: Collection[str] = (),
    shadow: ShadowSample | None = None,
    overhead_usd: float = 0.0,
) -> Savings:
    """Return the run beside what it would have been.

    Args:
        calls: Every distinct call of the run, without the shadow sample's.
        policy: Its two models.
        endpoint_of: Gives an endpoint's prices.
        superseded: Keys of calls that the next tier answered again.
        shadow: What the frontier answered to the efficient tier's requests.
        overhead_usd: What GPUs cost beside the calls: starting, loading, waiting.
    """
    if not calls:
        return Savings()
    sample = shadow or ShadowSample()
    kept = steps(calls, superseded)
    scenarios = [_as_run(calls, overhead_usd)]
    if not policy.frontier.is_builtin:
        scenarios.append(_all_on(policy.frontier, "all frontier", kept, endpoint_of, sample.pairs))
    if policy.frontier != SMALL:
        scenarios.append(_all_on(SMALL, "all small frontier", kept, endpoint_of, []))
    scenarios.append(_with_batches(calls, policy, endpoint_of, overhead_usd))
    agreed = share_interval([pair.agreement for pair in sample.pairs]) if sample.pairs else None
    return Savings(
        scenarios=scenarios,
        agreement=agreed.value if agreed else None,
        agreement_low=agreed.low if agreed else None,
        agreement_high=agreed.high if agreed else None,
        n_samples=len(sample.pairs),
    )


def _as_run(calls: Sequence[Spent], overhead_usd: float) -> Scenario:
    return Scenario(
        name="as run",
        usd=_total([*(call.usd for call in calls), overhead_usd]),
        basis="recorded prices, and what GPUs cost beside the calls"
        if overhead_usd
        else "recorded prices",
        by_purpose=_by_purpose((call.purpose, call.usd) for call in calls),
    )


def _all_on(
    model: ModelRef,
    name: str,
    kept: Sequence[Spent],
    endpoint_of: EndpointOf,
    pairs: Sequence[ShadowPair],
) -> Scenario:
    """Price every step on one model: its own calls as they were, the others by a ratio."""
    own = [call for call in kept if call.model == str(model)]
    others = [call for call in kept if call.model != str(model)]
    measured = _measured(model, pairs, endpoint_of)
    per_byte = {} if measured else tokens_per_byte(kept)
    ratio, basis = measured or (Interval(1.0), _assumption(str(model), per_byte))
    predicted = [_predicted(call, model, endpoint_of, per_byte) for call in others]
    own_usd, rest_usd = _total([call.usd for call in own]), _total(predicted)
    rows = [(call.purpose, call.usd) for call in own]
    for call, usd in zip(others, predicted, strict=True):
        rows.append((call.purpose, _times(usd, ratio.value)))
    return Scenario(
        name=f"{name} ({model})",
        usd=_plus(own_usd, _times(rest_usd, ratio.value)),
        low_usd=_plus(own_usd, _times(rest_usd, ratio.low)) if rest_usd else None,
        high_usd=_plus(own_usd, _times(rest_usd, ratio.high)) if rest_usd else None,
        basis=basis,
        by_purpose=_by_purpose(rows),
    )


def _with_batches(
    calls: Sequence[Spent], policy: Policy, endpoint_of: EndpointOf, overhead_usd: float
) -> Scenario:
    """Price the frontier's calls as a batch's: what the run costs where it can wait for hours."""
    frontier, rows = endpoint_of(policy.frontier), []
    for call in calls:
        usd = call.usd
        if is_frontier(call, policy):
            at_s = call.started_s
            usd = price_usd(policy.frontier, frontier, call.usage, at_s=at_s, batch=True)
            usd = usd if call.usage.all_input_tokens else None
        rows.append((call.purpose, usd))
    return Scenario(
        name="as run, with batches",
        usd=_total([*(usd for _, usd in rows), overhead_usd]),
        basis="the frontier's calls at its provider's price of batches",
        by_purpose=_by_purpose(rows),
    )


def tokens_per_byte(calls: Sequence[Spent]) -> dict[str, float]:
    """Return the measured input tokens per byte of prompt, by model."""
    tokens: dict[str, int] = defaultdict(int)
    n_bytes: dict[str, int] = defaultdict(int)
    for call in calls:
        if call.prompt_bytes and call.usage.all_input_tokens:
            tokens[call.model] += call.usage.all_input_tokens
            n_bytes[call.model] += call.prompt_bytes
    return {model: tokens[model] / n_bytes[model] for model in tokens}


def _predicted(
    call: Spent, model: ModelRef, endpoint_of: EndpointOf, per_byte: Mapping[str, float]
) -> float | None:
    """Return what a call would cost on another model, nothing of it read from a cache.

    None where nobody knows its price, or how many tokens it took.
    """
    if not (n_input := call.usage.all_input_tokens):
        return None
    if call.prompt_bytes and call.model in per_byte and str(model) in per_byte:
        n_input = round(n_input * per_byte[str(model)] / per_byte[call.model])
    usage = Usage(input_tokens=n_input, output_tokens=call.usage.output_tokens)
    return price_usd(model, endpoint_of(model), usage, at_s=call.started_s)


def _assumption(model: str, per_byte: Mapping[str, float]) -> str:
    if model in per_byte and len(per_byte) > 1:
        return (
            f"input by this run's {1 / per_byte[model]:.1f} bytes per token of that model; output "
            "assumed as long as it was; no cache"
        )
    return "assumed: as many tokens in and out as on the model that was asked; no cache"


def _measured(
    model: ModelRef, pairs: Sequence[ShadowPair], endpoint_of: EndpointOf
) -> tuple[Interval, str] | None:
    """Return the cost that was measured over the cost of equal tokens; None without a sample."""
    equal, measured = [], []
    for pair in pairs:
        usage = Usage(input_tokens=pair.input_tokens, output_tokens=pair.output_tokens)
        usd = price_usd(model, endpoint_of(model), usage, at_s=pair.at_s)
        if usd and pair.shadow_usd is not None:
            equal.append(usd)
            measured.append(pair.shadow_usd)
    if not equal:
        return None
    found = ratio_interval(equal, measured)
    few = "" if found.low is not None else f"; below {LEAST_SAMPLES}, so no interval"
    return found, (
        f"measured on {len(equal)} calls asked of both tiers: {found.value:.2f} times the cost of "
        f"equal tokens{few}"
    )


def _by_purpose(rows: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for purpose, usd in rows:
        sums[purpose] += usd or 0.0
    return dict(sums)


def _total(prices: Sequence[float | None]) -> float | None:
    return None if None in prices else sum(usd or 0.0 for usd in prices)


def _times(usd: float | None, ratio: float | None) -> float | None:
    return None if usd is None or ratio is None else usd * ratio


def _plus(usd: float | None, more: float | None) -> float | None:
    return None if usd is None or more is None else usd + more
