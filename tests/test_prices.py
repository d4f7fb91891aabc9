"""Prices: the providers' published arithmetic, own prices, and the most that a call can cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from nemoflows.calls import Part, Thinking, Usage, user, wire
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.llm.results import CallSpec
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.money.ledger import fold
from nemoflows.money.prices import most_input_tokens, price_usd, worst_usd
from nemoflows.types import ModelRef
from tests.support import make_llm, request

AT_S = datetime(2026, 11, 17, 9, tzinfo=UTC).timestamp()
"""A peak hour of DeepSeek's."""
USAGE = Usage(input_tokens=2_000, output_tokens=500)
GOOGLE = Endpoint(dialect="compatible", price_key="google")
ROUTER = Endpoint(dialect="compatible", price_key="openrouter")


class Published(NamedTuple):
    """USD per million tokens, and what changes for a long prompt."""

    input: float
    output: float
    read: float
    written: float
    """Five minutes' cache; where a provider bills no writes, the price of the input."""
    batch: float = 0.5
    """What a batch costs of it; 1 where there is none."""
    long_from: int = 10**9
    """Prompts above this many tokens are dearer as a whole."""
    long_input: float = 1.0
    long_output: float = 1.0


PUBLISHED = {
    "anthropic:claude-fable-5-2": Published(8, 40, 0.20, 10),
    "anthropic:claude-fable-5-1": Published(10, 50, 0.25, 12.5),
    "anthropic:claude-opus-5-5": Published(4, 20, 0.20, 5),
    "anthropic:claude-opus-5": Published(5, 25, 0.50, 6.25),
    "anthropic:claude-sonnet-5-5": Published(2, 10, 0.10, 2.5),
    "anthropic:claude-sonnet-5": Published(2, 10, 0.20, 2.5),
    "anthropic:claude-haiku-5-5": Published(
        0.10, 0.50, 0.01, 0.125, long_from=100_000, long_input=5, long_output=5
    ),
    "anthropic:claude-haiku-4-5": Published(1, 5, 0.10, 1.25),
    "openai:gpt-6-astra": Published(
        10, 50, 1.0, 12.5, long_from=272_000, long_input=2, long_output=1.5
    ),
    "openai:gpt-6-sol": Published(
        2, 10, 0.20, 2.5, long_from=272_000, long_input=2, long_output=1.5
    ),
    "openai:gpt-6.1-terra": Published(
        1, 5, 0.05, 1.25, long_from=272_000, long_input=2, long_output=1.5
    ),
    "openai:gpt-6-luna": Published(
        0.10, 0.50, 0.01, 0.125, long_from=272_000, long_input=2, long_output=1.5
    ),
    "google:gemini-4-argon": Published(2, 10, 0.10, 2),
    "deepseek:deepseek-flash": Published(0.30, 1.20, 0.006, 0.30, batch=1),
    "deepseek:deepseek-v4-pro": Published(1.32, 3.96, 0.044, 1.32, batch=1),
}
"""Source: the providers' price pages, read on 22 November 2026; DeepSeek's at its peak hours."""


def endpoint_of(name: str) -> Endpoint:
    return {"google": GOOGLE, "router": ROUTER}.get(name) or BUILT_IN[name]


def price(
    spelling: str,
    endpoint: Endpoint | None = None,
    usage: Usage = USAGE,
    *,
    at_s: float = AT_S,
    batch: bool | None = None,
) -> float | None:
    model = ModelRef.model_validate(spelling)
    return price_usd(model, endpoint or endpoint_of(model.endpoint), usage, at_s=at_s, batch=batch)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(Usage(input_tokens=50_000, output_tokens=900), id="plain"),
        pytest.param(
            Usage(input_tokens=1_000, cache_read_tokens=60_000, output_tokens=900), id="read"
        ),
        pytest.param(
            Usage(input_tokens=1_000, cache_write_tokens=60_000, output_tokens=900), id="written"
        ),
        pytest.param(Usage(input_tokens=300_000, output_tokens=900), id="long"),
        pytest.param(
            Usage(input_tokens=2_000, output_tokens=9_000, reasoning_tokens=8_000), id="thinking"
        ),
    ],
)
@pytest.mark.parametrize("spelling", PUBLISHED)
def test_a_price_is_the_published_arithmetic(spelling: str, usage: Usage, batch: bool) -> None:
    told = PUBLISHED[spelling]
    is_long = usage.all_input_tokens > told.long_from
    read = usage.cache_read_tokens * told.read
    inputs = usage.input_tokens * told.input + read + usage.cache_write_tokens * told.written
    usd = inputs * (told.long_input if is_long else 1)
    usd += usage.output_tokens * told.output * (told.long_output if is_long else 1)
    usd *= told.batch if batch else 1
    assert price(spelling, usage=usage, batch=batch) == pytest.approx(usd / 1e6)


def test_a_price_goes_by_the_time_of_the_call() -> None:
    night_s = AT_S + 8 * 3600  # off DeepSeek's peak
    cheap, dear = (price("deepseek:deepseek-flash", at_s=at_s) for at_s in (night_s, AT_S))
    assert cheap == pytest.approx(0.0006)
    assert dear == pytest.approx(0.0012)


@pytest.mark.parametrize(
    ("name", "usd"),
    [("nemotron-3-nano-30b-a3b", 0.00024), ("nemotron-3-super-120b-a12b", 0.000385)],
)
def test_hosted_nemotron_is_priced(name: str, usd: float) -> None:
    """2,000 in, 500 out. Source: openrouter.ai, November 2026."""
    assert price(f"router:nvidia/{name}") == pytest.approx(usd)


def test_the_endpoint_of_batches_costs_half() -> None:
    whole, half = price("anthropic:claude-opus-5-5"), price("anthropic-batch:claude-opus-5-5")
    assert whole == pytest.approx(0.018)
    assert half == pytest.approx(0.009)


def test_an_own_price_of_a_batch_is_taken_as_it_is() -> None:
    own = Endpoint(dialect="anthropic-batch", usd_per_mtok=(1.0, 10.0))
    assert price("anthropic-batch:x", own) == pytest.approx(0.007)


def test_an_own_price_beats_the_table() -> None:
    own = Endpoint(dialect="openai", price_key="openai", usd_per_mtok=(1.0, 10.0))
    cached = Usage(input_tokens=1_000, cache_read_tokens=1_000, output_tokens=500)
    assert price("openai:gpt-6-luna", own, cached) == pytest.approx(0.007)


def test_what_nobody_prices_costs_none() -> None:
    nobodys = Endpoint(dialect="openai", base_url="http://localhost/v1")
    assert price("openai:nobody-knows-this") is None
    assert price("x:y", nobodys) is None
    assert most("x:y", nobodys) is None
    assert most("openai:nobody-knows-this", BUILT_IN["openai"]) is None


def test_an_unknown_price_stays_unknown_from_end_to_end(tmp_path: Path) -> None:
    llm = make_llm(FakeEngine([Rule(reply="fine")]), tmp_path)
    done = asyncio.run(llm.complete(CallSpec(request(), lambda reply, _: reply.text)))
    [call] = llm.calls(done.calls)
    record = llm.journal.get(call.key)
    assert record is not None
    assert (record.usd, call.usd) == (None, None)
    assert "1 call of unknown price" in str(fold([call]))


def test_no_model_costs_nothing() -> None:
    assert price("builtin") == 0.0
    assert most("builtin", BUILT_IN["builtin"]) == 0.0


def most(spelling: str, endpoint: Endpoint, n_input: int = 50_000) -> float | None:
    model = ModelRef.model_validate(spelling)
    return worst_usd(model, endpoint, n_input=n_input, n_output=9_000, at_s=AT_S - 8 * 3600)


@pytest.mark.parametrize("spelling", PUBLISHED)
@pytest.mark.parametrize("n_input", [1_000, 99_000, 271_000, 300_000])
def test_no_call_costs_more_than_its_worst_case(spelling: str, n_input: int) -> None:
    """However it splits its input, and whenever on the coming day it is made."""
    worst = most(spelling, endpoint_of(spelling.partition(":")[0]), n_input)
    assert worst is not None
    for usage in (
        Usage(input_tokens=n_input, output_tokens=9_000),
        Usage(cache_write_tokens=n_input, output_tokens=9_000),
        Usage(cache_read_tokens=n_input, output_tokens=8_000),
        Usage(input_tokens=n_input // 2, cache_write_tokens=n_input // 2, output_tokens=1),
    ):
        for hours in range(0, 24, 3):
            usd = price(spelling, usage=usage, at_s=AT_S + (hours - 8) * 3600)
            assert usd is not None
            assert usd <= worst * (1 + 1e-9)


def test_the_worst_case_of_an_own_price_is_that_price() -> None:
    own = Endpoint(dialect="openai", usd_per_mtok=(1.0, 10.0))
    assert most("x:y", own) == pytest.approx(0.14)


def test_gpu_time_bounds_a_call_only_where_its_speed_is_told() -> None:
    rented = Endpoint(dialect="vllm-server", usd_per_gpu_hour=3.6, gpus=2)
    assert most("x:y", rented) is None
    fast = rented.model_copy(update={"tokens_per_s": 1_000.0})
    assert most("x:y", fast) == pytest.approx(0.118)
    assert price("x:y", fast) is None, "tokens do not tell what GPU time costs"


@pytest.mark.parametrize("text", ["digits 1234567890 " * 50, "Straße 雪 🙂 " * 50, "\x00\x01"])
def test_no_tokeniser_makes_more_tokens_than_bytes(text: str) -> None:
    plain = request(text)
    rendered = sum(len(wire.render(p).encode()) for p in plain.messages[0].parts)
    assert most_input_tokens(plain) >= rendered
    data = request(messages=[user([Part(kind="passage", text=text, id="P1", heading="Höhe > x")])])
    rendered = sum(len(wire.render(p).encode()) for p in data.messages[0].parts)
    assert most_input_tokens(data) >= rendered


def test_thinking_counts_towards_the_worst_case(tmp_path: Path) -> None:
    llm = make_llm(FakeEngine([Rule(reply="x")]), tmp_path, endpoint="near")
    llm.settings.endpoints["near"] = Endpoint(dialect="fake", usd_per_mtok=(0.0, 1.0))
    still = llm.worst_usd(request(model="near:x", max_output_tokens=100))
    deep = llm.worst_usd(
        request(
            model="near:x",
            max_output_tokens=100,
            thinking=Thinking(mode="budget", budget_tokens=900),
        )
    )
    assert still == pytest.approx(0.0001)
    assert deep == pytest.approx(0.001)
