"""Tokens and GPU time to money: what a call cost, and the most that it can cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from nemoflows.calls import Request, Usage
from nemoflows.models import BATCHED, FREE, Endpoint
from nemoflows.types import ModelRef

TEMPLATE_TOKENS = 1024
"""Input tokens that a provider may add to a request: its template, its words about tools."""


HOURS = 24
"""Hours ahead whose prices a reservation covers: some providers' depend on the time of day."""


def price_usd(
    model: ModelRef, endpoint: Endpoint, usage: Usage, *, at_s: float, batch: bool | None = None
) -> float | None:
    """Return what a call cost in USD, or None where nobody knows.

    Args:
        at_s: Unix time of the request; prices change.
        batch: Whether it was one of a batch; None goes by the endpoint.

    Source:
        Own price of the endpoint where declared, else the table of the package genai-prices.
    """
    if endpoint.usd_per_mtok is not None:
        input_usd, output_usd = endpoint.usd_per_mtok
        n_input = usage.all_input_tokens
        return (n_input * input_usd + usage.output_tokens * output_usd) / 1e6
    if endpoint.dialect in FREE:
        return 0.0
    if not endpoint.price_key or endpoint.usd_per_gpu_hour is not None:
        return None
    batched = endpoint.dialect in BATCHED if batch is None else batch
    bits, minute = usage.all_input_tokens.bit_length(), int(at_s // 60)
    rates = _rates(model.name, endpoint.price_key, bits, minute, batched)
    if rates is None:
        return _table_usd(model.name, endpoint.price_key, usage, at_s, batch=batched)
    counts = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    usd = sum(rate * n for rate, n in zip(rates, (*counts, usage.output_tokens), strict=True))
    return float(usd)


def by_gpu_time(endpoint: Endpoint) -> bool:
    """Return whether a call at an endpoint costs its share of GPU time."""
    return endpoint.usd_per_gpu_hour is not None and endpoint.usd_per_mtok is None


def gpu_usd(endpoint: Endpoint, seconds: float) -> float:
    """Return what seconds on all GPUs of an endpoint cost, at its own price per GPU-hour."""
    return (endpoint.usd_per_gpu_hour or 0.0) * endpoint.gpus * seconds / 3600


def worst_usd(
    model: ModelRef, endpoint: Endpoint, *, n_input: int, n_output: int, at_s: float
) -> float | None:
    """Return the most that a call can cost in USD, or None where nobody knows.

    The input counts as written to the provider's cache where that is dearer, and every rate is
    the highest of the coming day at that length of prompt.

    Args:
        n_input: Input tokens that are never exceeded.
        n_output: Output tokens that are never exceeded, thinking included.
        at_s: Unix time of the request.
    """
    if by_gpu_time(endpoint):
        if endpoint.tokens_per_s is None:
            return None
        return gpu_usd(endpoint, (n_input + n_output) / endpoint.tokens_per_s)
    if endpoint.usd_per_mtok is not None or endpoint.dialect in FREE:
        usage = Usage(input_tokens=n_input, output_tokens=n_output)
        return price_usd(model, endpoint, usage, at_s=at_s)
    batch = endpoint.dialect in BATCHED
    hour = int(at_s // 3600)
    rates = _worst_rates(model.name, endpoint.price_key, n_input.bit_length(), hour, batch)
    return None if rates is None else n_input * rates[0] + n_output * rates[1]


def most_input_tokens(request: Request) -> int:
    """Return a number of input tokens that a request cannot exceed.

    Source: byte-level tokenisers make at most one token of a byte. Delimiters, marks and the
    schema count too; TEMPLATE_TOKENS cover what the provider adds.
    """
    return n_bytes(request) + TEMPLATE_TOKENS


def n_bytes(request: Request) -> int:
    """Return the length of what a request asks, delimiters and schema included, rather too long."""
    total = _n_bytes(request.system)
    for turn in request.messages:
        for part in turn.parts:
            total += _n_bytes(part.text) + _n_bytes(part.heading) + _n_bytes(part.id) + 64
        total += _n_bytes(repr(turn.blocks)) if turn.blocks else 0
    for extra in (request.json_schema, *(tool.schema_ for tool in request.tools)):
        total += 2 * _n_bytes(repr(extra)) if extra else 0
    return total + sum(len(tool.name) + _n_bytes(tool.description) for tool in request.tools)


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


@lru_cache(maxsize=1024)
def _worst_rates(
    name: str, provider: str, bits: int, hour: int, batch: bool
) -> tuple[float, float] | None:
    """Return the highest USD per input and per output token of prompts of that many bits."""
    n = (1 << bits) - 1
    start = datetime.fromtimestamp(hour * 3600, tz=UTC)
    inputs, outputs = [], []
    for ahead in range(HOURS + 1):
        at_s = (start + timedelta(hours=ahead)).timestamp()
        fresh = _table_usd(name, provider, Usage(input_tokens=n), at_s, batch=batch)
        written = _table_usd(name, provider, Usage(cache_write_tokens=n), at_s, batch=batch)
        both = Usage(input_tokens=n, output_tokens=1_000)
        whole = _table_usd(name, provider, both, at_s, batch=batch)
        if fresh is None or whole is None:
            return None
        inputs.append(max(fresh, written or 0.0) / max(n, 1))
        outputs.append((whole - fresh) / 1_000)
    return max(inputs), max(outputs)


@lru_cache(maxsize=4096)
def _rates(
    name: str, provider: str, bits: int, minute: int, batch: bool
) -> tuple[float, ...] | None:
    """Return USD per token fresh, read, written and put out, of prompts of that many bits.

    None where the price changes among them, or nobody knows it. The table takes a tenth of a
    millisecond to ask, as much as all else about a call's money.
    """
    ends = []
    for n in ((1 << bits) >> 1, (1 << bits) - 1):
        kinds = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        usages = [Usage(**{kind: n}) for kind in kinds] + [Usage(input_tokens=n, output_tokens=n)]
        usd = [_table_usd(name, provider, each, minute * 60.0, batch=batch) for each in usages]
        if not n or None in usd:
            return None
        known = [each or 0.0 for each in usd]
        ends.append([known[0] / n, known[1] / n, known[2] / n, (known[3] - known[0]) / n])
    pairs = zip(*ends, strict=True)
    is_one = all(abs(low - high) <= 1e-9 * max(low, high) for low, high in pairs)
    return tuple(ends[1]) if is_one else None


def _table_usd(name: str, provider: str, usage: Usage, at_s: float, *, batch: bool) -> float | None:
    if not provider:
        return None
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
