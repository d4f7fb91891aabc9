"""Counterfactuals: each step once, each figure with its basis, intervals that keep their word."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from nemoflows.calls import Usage
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadInput
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.llm.concurrency import run_here
from nemoflows.llm.results import CallSpec
from nemoflows.llm.shadow import agreement, ask_both
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.money.budgets import Account, Budget
from nemoflows.money.intervals import LEAST_SAMPLES, mean_interval, ratio_interval, share_interval
from nemoflows.money.ledger import Spent
from nemoflows.money.prices import price_usd
from nemoflows.money.savings import (
    SMALL,
    Savings,
    Scenario,
    ShadowPair,
    ShadowSample,
    compare,
    steps,
    tokens_per_byte,
)
from nemoflows.settings import Settings
from nemoflows.types import ModelRef, Policy
from tests.support import request

POLICY = Policy.model_validate({"efficient": "near:small", "frontier": "anthropic:claude-opus-5-5"})
NEAR = Endpoint(dialect="openai", usd_per_mtok=(0.05, 0.2))
OPUS = (4.0, 20.0)
"""USD per million tokens in and out, November 2026."""
FAR = Endpoint(dialect="openai", usd_per_mtok=OPUS)
FAR_POLICY = Policy.model_validate({"efficient": "near:small", "frontier": "far:large"})
AT_S = 1_795_000_000.0


def endpoint_of(model: ModelRef) -> Endpoint:
    return NEAR if model.endpoint == "near" else BUILT_IN[model.endpoint]


def call(
    key: str, *, tier: str = "efficient", n_in: int = 1_000, out: int = 100, **more: object
) -> Spent:
    model = POLICY.efficient if tier == "efficient" else POLICY.frontier
    usage = Usage(input_tokens=n_in, output_tokens=out)
    usd = price_usd(model, endpoint_of(model), usage, at_s=AT_S)
    told = {"key": key, "purpose": "extract", "model": str(model), "usage": usage, "usd": usd}
    return Spent.model_validate(
        {**told, "replayed": False, "tier": tier, "started_s": AT_S, **more}
    )


def savings(calls: Sequence[Spent], **more: object) -> Savings:
    return compare(calls, POLICY, endpoint_of=endpoint_of, **more)  # type: ignore[arg-type]


def scenario(found: Savings, name: str) -> Scenario:
    return next(each for each in found.scenarios if each.name.startswith(name))


def test_every_step_is_priced_on_the_frontier_and_on_a_small_one() -> None:
    found = savings([call("a"), call("b", tier="frontier", purpose="synthesise")])
    opus_usd = (1_000 * OPUS[0] + 100 * OPUS[1]) / 1e6
    near_usd = (1_000 * 0.05 + 100 * 0.2) / 1e6
    assert scenario(found, "as run").usd == pytest.approx(opus_usd + near_usd)
    assert scenario(found, "all frontier").usd == pytest.approx(2 * opus_usd)
    assert scenario(found, "all small frontier").usd == pytest.approx(2 * 0.00015)
    assert scenario(found, "as run, with batches").usd == pytest.approx(opus_usd / 2 + near_usd)
    assert scenario(found, "all frontier").by_purpose.keys() == {"extract", "synthesise"}
    assert all(each.basis and each.low_usd is None for each in found.scenarios)
    assert "assumed" in scenario(found, "all small").basis


def test_a_step_that_was_asked_twice_counts_once() -> None:
    first, second = call("a", first_key="a", reason="invalid"), call("b", first_key="a", out=300)
    other = call("c", first_key="c")
    assert steps([first, second, other]) == [second, other]
    opus_usd = (2_000 * OPUS[0] + 400 * OPUS[1]) / 1e6
    assert scenario(savings([first, second, other]), "all frontier").usd == pytest.approx(opus_usd)


def test_what_the_next_tier_answered_again_would_not_have_been_tried_before() -> None:
    tried, again = call("a"), call("b", tier="frontier")
    found = savings([tried, again], superseded={"a"})
    assert scenario(found, "all frontier").usd == again.usd
    assert scenario(found, "as run").usd == pytest.approx((tried.usd or 0) + (again.usd or 0))


def test_gpu_time_beside_the_calls_belongs_to_the_run_alone() -> None:
    bare, loaded = savings([call("a")]), savings([call("a")], overhead_usd=0.5)
    for name, more in (("as run", 0.5), ("all frontier", 0.0), ("as run, with batches", 0.5)):
        before, after = scenario(bare, name).usd, scenario(loaded, name).usd
        assert after == pytest.approx((before or 0) + more)


def test_measured_bytes_per_token_convert_the_input() -> None:
    ours = call("a", n_in=1_000, prompt_bytes=4_000)
    theirs = call("b", tier="frontier", n_in=2_000, prompt_bytes=4_000)
    assert tokens_per_byte([ours, theirs]) == {"near:small": 0.25, str(POLICY.frontier): 0.5}
    found = scenario(savings([ours, theirs]), "all frontier")
    own_usd = (2_000 * OPUS[0] + 100 * OPUS[1]) / 1e6
    assert found.usd == pytest.approx(2 * own_usd)
    assert "2.0 bytes per token" in found.basis


def test_an_unknown_price_leaves_the_scenario_unknown() -> None:
    found = savings([call("a", usd=None)])
    assert scenario(found, "as run").usd is None
    nobody = Policy.model_validate({"efficient": "near:small", "frontier": "openai:nobody"})
    found = compare([call("a")], nobody, endpoint_of=endpoint_of)
    assert scenario(found, "all frontier").usd is None
    assert scenario(found, "all small").usd is not None


def test_tokens_that_nobody_counted_are_not_free_elsewhere() -> None:
    near, far = call("a", usage=Usage(), usd=0.1), call("b", tier="frontier", usage=Usage())
    for calls, names in (
        ([near], ("all frontier", "all small")),
        ([far], ("as run, with batches", "all small")),
    ):
        found = savings([call("c"), *calls])
        assert [scenario(found, name).usd for name in names] == [None, None]
    assert scenario(savings([near]), "as run").usd == 0.1


def test_without_calls_there_is_nothing_to_compare() -> None:
    assert savings([]) == Savings()


def pair(draw: random.Random, key: str, n_in: int, out: int) -> ShadowPair:
    """Return what a provider answers whose replies are 1.3 times as long, give or take a third."""
    theirs = max(1, round(out * 1.3 * draw.lognormvariate(-0.045, 0.3)))
    usd = (n_in * OPUS[0] + theirs * OPUS[1]) / 1e6
    return ShadowPair(
        key=key,
        shadow=key,
        purpose="extract",
        input_tokens=n_in,
        output_tokens=out,
        shadow_input_tokens=n_in,
        shadow_output_tokens=theirs,
        shadow_usd=usd,
        agreement=min(1.0, max(0.0, draw.gauss(0.8, 0.1))),
        at_s=AT_S,
    )


def one_run(seed: int) -> bool:
    """Return whether the true saving of a seeded run lies in the interval."""
    draw = random.Random(seed)
    sizes = [
        (round(draw.lognormvariate(7, 0.5)), 1 + round(draw.lognormvariate(5, 0.7)))
        for _ in range(400)
    ]
    calls = [call(f"{n}", n_in=n_in, out=out) for n, (n_in, out) in enumerate(sizes)]
    drawn = [n for n in range(len(calls)) if draw.random() < 0.25]
    sample = ShadowSample(share=0.25, pairs=[pair(draw, f"{n}", *sizes[n]) for n in drawn])
    # The arithmetic of the table, without looking it up 400,000 times.
    found = scenario(
        compare(calls, FAR_POLICY, endpoint_of=lambda _: FAR, shadow=sample), "all frontier"
    )
    truth_usd = sum(n_in * OPUS[0] + 1.3 * out * OPUS[1] for n_in, out in sizes) / 1e6
    assert found.low_usd is not None
    assert found.high_usd is not None
    as_run_usd = sum(each.usd or 0.0 for each in calls)
    return found.low_usd - as_run_usd <= truth_usd - as_run_usd <= found.high_usd - as_run_usd


def test_the_true_saving_lies_in_the_interval_as_often_as_is_claimed() -> None:
    assert 930 <= sum(one_run(seed) for seed in range(1_000)) <= 975


def test_no_interval_is_claimed_of_too_few_samples() -> None:
    draw = random.Random(0)
    for n in (LEAST_SAMPLES - 1, LEAST_SAMPLES):
        pairs = [pair(draw, str(k), 1_000, 100) for k in range(n)]
        found = savings([call("x"), call("y")], shadow=ShadowSample(share=0.5, pairs=pairs))
        claimed = scenario(found, "all frontier").low_usd is not None
        assert claimed == (n == LEAST_SAMPLES) == (found.agreement_low is not None)
        assert found.agreement == pytest.approx(fmean(each.agreement for each in pairs))
        assert ("no interval" in scenario(found, "all frontier").basis) != claimed


def test_intervals_are_those_of_the_textbook() -> None:
    values = [float(n % 10) for n in range(100)]
    found = mean_interval(values)
    assert found.value == 4.5
    assert found.low == pytest.approx(4.5 - 1.98422 * 2.886751 / 10, abs=1e-4)
    assert share_interval([1.0] * 99 + [0.9]).high == 1.0
    assert share_interval([0.0] * 99 + [0.1]).low == 0.0
    same = ratio_interval([1.0] * 100, values)
    assert same.value == found.value
    assert same.low == pytest.approx(found.low, abs=0.06), "another method of the same thing"
    assert ratio_interval([1.0] * 60, [2.0] * 60) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ('{"summary": "the Elbe is long"}', '{"summary": "The Elbe is LONG."}', 1.0),
        ('{"quotes": [{"quote": "Elbe"}]}', '{"quotes": [{"quote": "Danube"}]}', 0.0),
        ("Elbe river", "Elbe", 2 / 3),
        ('{"query": ""}', '{"query": ""}', 1.0),
        ("[" * 3_000, "x", 0.0),
    ],
)
def test_agreement_is_the_share_of_terms_in_both(one: str, other: str, share: float) -> None:
    assert agreement(one, other) == pytest.approx(share)


def client(folder: Path, *, cap_usd: float | None = None) -> tuple[BoundClient, FakeEngine]:
    small = FakeEngine([Rule(reply="short reply", usage=Usage(input_tokens=100, output_tokens=20))])
    large = FakeEngine([Rule(reply="short", usage=Usage(input_tokens=120, output_tokens=26))])
    own = {"near": NEAR.model_copy(update={"dialect": "fake"})}
    own["far"] = Endpoint(dialect="fake", usd_per_mtok=OPUS)
    settings = Settings(run="test", endpoints=own)
    engines = Engines(settings, given={"near": small, "far": large})
    llm = LLMClient(engines, Journal(str(folder), run="test"), settings=settings)
    account = Account(task="shadow", tier="frontier", budget=Budget(cap_usd))
    return BoundClient(llm, ModelRef.model_validate("far:large"), account=account), large


def answered(own: BoundClient, n: int = 200) -> list[str]:
    asks = [
        CallSpec(request(f"{number}", model="near:small"), lambda reply, _: reply.text)
        for number in range(n)
    ]
    return [key for done in run_here(own.llm.batch(asks)) for key in done.calls]


def sample(own: BoundClient, keys: Sequence[str], share: float) -> ShadowSample:
    return run_here(ask_both(keys, efficient=POLICY.efficient, client=own, share=share))


def test_a_share_of_the_calls_is_asked_of_both(tmp_path: Path) -> None:
    own, large = client(tmp_path)
    keys = answered(own)
    found = sample(own, [*keys, *keys, "0" * 64], 0.5)
    assert (found.n_calls, found.share, found.budget_note) == (200, 0.5, "")
    assert 70 <= len(found.pairs) <= 130
    assert len(large.asked) == len(found.pairs)
    assert {request.purpose for request in large.asked} == {"summarise"}
    first = found.pairs[0]
    assert (first.output_tokens, first.shadow_output_tokens) == (20, 26)
    assert first.shadow_usd == pytest.approx((120 * OPUS[0] + 26 * OPUS[1]) / 1e6)
    assert first.agreement == pytest.approx(2 / 3)
    again, untouched = client(tmp_path)
    assert sample(again, keys, 0.5) == found
    assert not untouched.asked, "a sample is drawn and paid once"


def test_a_sample_keeps_within_its_budget(tmp_path: Path) -> None:
    own, large = client(tmp_path)
    keys = answered(own)
    worst = own.llm.worst_usd(request("100", model="far:large")) or 0.0
    poor, large = client(tmp_path, cap_usd=2.5 * worst)
    found = sample(poor, keys, 1.0)
    assert 2 <= len(found.pairs) == len(large.asked) < 200
    assert "Of the budget of" in found.budget_note
    assert poor.account.budget.used_usd <= 2.5 * worst


def test_nothing_is_asked_by_default_and_no_nonsense_is(tmp_path: Path) -> None:
    own, large = client(tmp_path)
    keys = answered(own, 3)
    assert sample(own, keys, 0.0) == ShadowSample()
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(BadInput, match="is no share"):
            sample(own, keys, share)
    assert not large.asked


def test_the_small_frontier_is_priced() -> None:
    usage = Usage(input_tokens=2_000, output_tokens=500)
    assert price_usd(SMALL, BUILT_IN["anthropic"], usage, at_s=AT_S) == pytest.approx(0.00045)
