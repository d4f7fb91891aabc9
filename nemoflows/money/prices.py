"""Tokens and GPU time to money: what a call cost, and the most that it can cost."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from nemoflows.calls import Request, Usage
from nemoflows.models import BATCHED, FREE, Endpoint
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

TEMPLATE_TOKENS = 1024
"""Input tokens that a provider may add to a request: its template, its words about tools."""
MARK_BYTES, DELIMITER_BYTES = 12, 64
"""Around a unit's mark, and around a part, beside its id."""
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
    return _table_usd(model.name, endpoint.price_key, usage, int(at_s // 60), batch=batched)


def by_gpu_time(endpoint: Endpoint) -> bool:
    """Return whether a call at an endpoint costs its share of GPU time."""
    return endpoint.usd_per_gpu_hour is not None and endpoint.usd_per_mtok is None


def gpu_usd(endpoint: Endpoint, seconds: float) -> float:
    """Return what seconds on all GPUs of an endpoint cost, at its own price per GPU-hour."""
    return (endpoint.usd_per_gpu_hour or 0.0) * endpoint.gpus * seconds / 3600


def has_price(endpoint: Endpoint) -> bool:
    """Return whether anything says what calls at an endpoint cost."""
    own = endpoint.usd_per_mtok is not None or endpoint.usd_per_gpu_hour is not None
    return own or bool(endpoint.price_key) or endpoint.dialect in FREE


def worst_usd(
    model: ModelRef, endpoint: Endpoint, *, n_input: int, n_output: int, at_s: float
) -> float | None:
    """Return the most that a call can cost in USD, or None where nobody knows.

    The input counts as written to the provider's cache where that is dearer, and the price is the
    highest of the coming day at that length of prompt.

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
    name, provider, batch = model.name, endpoint.price_key, endpoint.dialect in BATCHED
    prices = [
        _table_usd(name, provider, usage, minute, batch=batch)
        for minute in _changes(name, provider, int(at_s // 3600), batch=batch)
        for usage in (
            Usage(input_tokens=n_input, output_tokens=n_output),
            Usage(cache_write_tokens=n_input, output_tokens=n_output),
        )
    ]
    return max((usd for usd in prices if usd is not None), default=None)


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
            marks = len(part.units) * (_n_bytes(part.id) + MARK_BYTES)
            texts = (part.text, part.heading, part.document, part.id, part.id)
            total += sum(map(_n_bytes, texts)) + marks + DELIMITER_BYTES
        total += _n_bytes(repr(turn.blocks)) if turn.blocks else 0
    for extra in (request.json_schema, *(tool.schema_ for tool in request.tools)):
        total += 2 * _n_bytes(repr(extra)) if extra else 0
    return total + sum(len(tool.name) + _n_bytes(tool.description) for tool in request.tools)


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


@lru_cache(maxsize=256)
def _changes(name: str, provider: str, hour: int, *, batch: bool) -> list[int]:
    """Return a minute for each price of the coming day that differs from those before it."""
    found: dict[int, object] = {}
    for minute in range(60 * hour, 60 * (hour + HOURS) + 1, 60):
        price = _looked_up(name, provider, Usage(), minute, batch=batch)
        if price is not None and price.model_price not in found.values():
            found[minute] = price.model_price
    return list(found)


@lru_cache(maxsize=4096)
def _table_usd(name: str, provider: str, usage: Usage, minute: int, *, batch: bool) -> float | None:
    price = _looked_up(name, provider, usage, minute, batch=batch)
    return None if price is None else float(price.total_price)


def _looked_up(
    name: str, provider: str, usage: Usage, minute: int, *, batch: bool
) -> PriceCalculation | None:
    """Return what the table says at a minute since 1970; None where it has no such price."""
    if not provider:
        return None
    import genai_prices

    try:
        tokens = genai_prices.Usage(
            input_tokens=usage.all_input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        return genai_prices.calc_price(
            tokens,
            name,
            provider_id=provider,
            genai_request_timestamp=datetime.fromtimestamp(60 * minute, tz=UTC),
            # Another spelling, such as the API's own service_tier, is passed over in silence.
            price_context={"processing": "batch"} if batch else None,
        )
    except (LookupError, ValueError, ArithmeticError):  # unknown, or usage that it finds odd
        return None
