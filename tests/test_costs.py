"""Prices and the ledger."""

from __future__ import annotations

import pytest

from nemoflows.calls import Usage
from nemoflows.costs import Ledger, Spent, fold, price_usd
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.types import ModelRef

AT_S = 1_795_000_000.0
"""17 November 2026."""
USAGE = Usage(input_tokens=2_000, output_tokens=500)


def price(spelling: str, endpoint: Endpoint | None = None, usage: Usage = USAGE) -> float | None:
    model = ModelRef.model_validate(spelling)
    return price_usd(model, endpoint or BUILT_IN[model.endpoint], usage, at_s=AT_S)


@pytest.mark.parametrize(
    ("spelling", "usd"),
    [
        ("anthropic:claude-opus-5-5", 0.018),
        ("anthropic:claude-sonnet-5-5", 0.009),
        ("anthropic:claude-haiku-5-5", 0.00045),
        ("openai:gpt-6-luna", 0.00045),
    ],
)
def test_prices_are_the_published_ones(spelling: str, usd: float) -> None:
    """2,000 tokens in and 500 out. Source: the providers' pages, November 2026."""
    assert price(spelling) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("name", "usd", "read_usd", "written_usd"),
    [
        ("claude-opus-5-5", 2_000 * 2.0 + 500 * 10.0, 0.10, 2.5),
        ("claude-sonnet-5-5", 2_000 * 1.0 + 500 * 5.0, 0.05, 1.25),
        ("claude-haiku-5-5", 2_000 * 0.05 + 500 * 0.25, 0.005, 0.0625),
        ("claude-fable-5-2", 2_000 * 4.0 + 500 * 20.0, 0.10, 5.0),
        ("claude-haiku-4-5", 2_000 * 0.5 + 500 * 2.5, 0.05, 0.625),
    ],
)
def test_a_batch_costs_half_caches_too(
    name: str, usd: float, read_usd: float, written_usd: float
) -> None:
    """USD per million tokens. Source: platform.claude.com, batch prices, November 2026."""
    assert price(f"anthropic-batch:{name}") == pytest.approx(usd / 1e6)
    assert price(f"anthropic:{name}") == pytest.approx(2 * usd / 1e6)
    cached = Usage(cache_read_tokens=10_000)
    assert price(f"anthropic-batch:{name}", usage=cached) == pytest.approx(read_usd / 100)
    written = Usage(cache_write_tokens=10_000)
    assert price(f"anthropic-batch:{name}", usage=written) == pytest.approx(written_usd / 100)


def test_an_own_price_of_a_batch_is_taken_as_it_is() -> None:
    own = Endpoint(dialect="anthropic-batch", usd_per_mtok=(1.0, 10.0))
    assert price("anthropic-batch:x", own) == pytest.approx(0.007)


def test_what_nobody_prices_costs_none() -> None:
    assert price("openai:nobody-knows-this") is None
    assert price("x:y", Endpoint(dialect="openai", base_url="http://localhost/v1")) is None


def test_no_model_costs_nothing() -> None:
    assert price("embedded") == 0.0


def test_an_own_price_beats_the_table() -> None:
    own = Endpoint(dialect="openai", price_key="openai", usd_per_mtok=(1.0, 10.0))
    cached = Usage(input_tokens=1_000, cache_read_tokens=1_000, output_tokens=500)
    assert price("openai:gpt-6-luna", own, cached) == pytest.approx(0.007)


def spent(key: str, *, replayed: bool = False, usd: float | None = 1.0) -> Spent:
    return Spent(key=key, purpose="plan", model="m", usage=USAGE, usd=usd, replayed=replayed)


def test_the_ledger_counts_a_key_once() -> None:
    ledger = fold([spent("a"), spent("a", replayed=True), spent("b", replayed=True)])
    assert (ledger.n_calls, ledger.n_replayed) == (2, 1)
    assert (ledger.usd, ledger.paid_now_usd) == (2.0, 1.0)
    assert ledger.usage == USAGE + USAGE


def test_a_key_replayed_before_it_was_paid_here_counts_as_paid() -> None:
    assert fold([spent("a", replayed=True), spent("a")]).paid_now_usd == 1.0


def test_unknown_prices_are_said_not_added() -> None:
    ledger = fold([spent("a", usd=None), spent("b")])
    assert (ledger.n_unpriced, ledger.usd) == (1, 1.0)
    assert "1 of unknown price" in str(ledger)


def test_calls_that_no_journal_holds_are_not_called_free() -> None:
    assert str(fold([], n_unrecorded=2)) == "cost: unknown; 2 calls were not recorded"
    assert "2 calls were not recorded" in str(fold([spent("a")], n_unrecorded=2))


def test_the_cost_line_of_nothing_says_so() -> None:
    assert str(Ledger()) == "cost: $0 (no model was called)"
