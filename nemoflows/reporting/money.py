"""The part of a report that says what the run cost, and what it would have cost otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.money.ledger import Group, counted, grouped, priced, usd
from nemoflows.money.savings import Scenario
from nemoflows.reporting.chart import Bar, Row, percent
from nemoflows.reporting.data import ReportData

TIERS = ("efficient", "frontier", "shadow")
"""Order of the parts of a bar; any other tier comes after them."""


def saved(data: ReportData) -> list[tuple[str, str, str]]:
    """Return what the run cost against each frontier: how much, than what, which costs what."""
    by_name = {scenario.name.partition(" (")[0]: scenario for scenario in data.savings.scenarios}
    run = by_name.get("as run")
    shares = []
    for name in ("all frontier", "all small frontier"):
        other = by_name.get(name)
        if run and other and run.usd is not None and other.usd:
            ratio, costs = run.usd / other.usd, f"which costs {usd(other.usd)}"
            is_less = ratio <= 1
            share = f"{1 - ratio:.0%}" if is_less else f"{ratio:.1f} times"
            shares.append((share, f"{'less than' if is_less else 'the cost of'} {name}", costs))
    return shares


def tiers(data: ReportData) -> list[str]:
    """Return the tiers that were asked, in the order of the parts of a bar."""
    measuring = data.measuring
    used = {"shadow" if call.key in measuring else call.tier for call in data.calls}
    return sorted(used, key=_rank)


def _rank(tier: str) -> tuple[int, str]:
    return (TIERS.index(tier) if tier in TIERS else len(TIERS), tier)


def costs(data: ReportData) -> list[Row]:
    """Return a row per step, its bar parted by tier."""
    by_step: dict[str, list[Group]] = {}
    for group in grouped(data.calls, shadow=data.measuring):
        by_step.setdefault(group.purpose, []).append(group)
    most = max((sum(group.usd for group in groups) for groups in by_step.values()), default=0.0)
    return [_cost_row(step, groups, most) for step, groups in by_step.items()]


def _cost_row(step: str, groups: Sequence[Group], most: float) -> Row:
    n_calls, n_unpriced = (
        sum(getattr(group, name) for group in groups) for name in ("n_calls", "n_unpriced")
    )
    unknown = f", {n_unpriced} of unknown price" if n_unpriced else ""
    bars = [
        Bar(
            kind=f"bar t{group.tier}",
            width=percent(group.usd, most),
            title=f"{group.tier}: {priced(group.usd, group.n_calls, group.n_unpriced)}, "
            f"{counted(group.n_calls, 'call')}",
        )
        for group in sorted(groups, key=lambda group: _rank(group.tier))
    ]
    cost = priced(sum(group.usd for group in groups), n_calls, n_unpriced)
    return Row(step, bars, f"{cost} · {counted(n_calls, 'call')}{unknown}")


def scenarios(data: ReportData) -> list[Row]:
    """Return what the same steps would have cost, each with its basis and its interval."""
    shown = data.savings.scenarios
    most = max((s.high_usd or s.usd or 0.0 for s in shown), default=0.0)
    return [_scenario(scenario, shown[0].usd, most) for scenario in shown]


def _scenario(scenario: Scenario, run_usd: float | None, most: float) -> Row:
    bars = [Bar("bar scenario", percent(scenario.usd or 0.0, most))]
    value, low, high = usd(scenario.usd), scenario.low_usd, scenario.high_usd
    if low is not None and high is not None:
        bars.append(Bar("whisker", percent(high - low, most), left=percent(low, most)))
        value += f" ({usd(low)} to {usd(high)})"
    less = _less(scenario, run_usd) if scenario.name != "as run" else ""
    parts = ", ".join(f"{name} {usd(part)}" for name, part in scenario.by_purpose.items())
    by_step = f" By step: {parts}." if parts else ""
    return Row(scenario.name, bars, value, f"{scenario.basis}.{less}{by_step}")


def _less(scenario: Scenario, run_usd: float | None) -> str:
    """Return what the run costs less than a scenario, with the interval where there is one."""
    if run_usd is None or scenario.usd is None:
        return ""
    less, word = scenario.usd - run_usd, "less"
    ends = [each - run_usd for each in (scenario.low_usd, scenario.high_usd) if each is not None]
    if less < 0:
        less, word, ends = -less, "more", [-each for each in reversed(ends)]
    within = f" ({usd(ends[0])} to {usd(ends[1])}, 95 %)" if len(ends) == 2 else ""
    return f" The run costs {usd(less)} {word}{within}."
