"""The part of a report that says what it cost, and what it would have cost otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Group, grouped
from nemoflows.money.savings import Scenario
from nemoflows.page.values import Page

TIERS = ("efficient", "frontier", "shadow", "")
"""Order and colours of the parts of a bar."""


def usd(amount: float | None) -> str:
    """Return an amount as a person reads it: never 0 for what is unknown or merely small."""
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    size = abs(amount)
    told = f"{size:,.2f}" if size >= 1 else f"{size:.6f}".rstrip("0").rstrip(".")
    return f"-${told}" if amount < 0 else f"${told}"


def cards(page: Page) -> str:
    """Return the figures that matter most, each with what it means."""
    ledger = page.ledger
    if not page.calls and not page.uncertain:
        return ""
    shown = [
        (usd(None if ledger.n_unpriced else ledger.usd), "the run's work", ""),
        (usd(ledger.paid_now_usd), "paid now", f"{ledger.n_replayed} calls replayed for nothing"),
        *_saved(page),
        (f"{ledger.n_calls:,}", "calls", f"{ledger.n_escalated} escalated"),
    ]
    if page.budget_usd is not None:
        shown.append((usd(page.budget_usd), "budget", _share(ledger.usd, page.budget_usd)))
    if ledger.usage.cache_read_tokens:
        share = _share(ledger.usage.cache_read_tokens, ledger.usage.all_input_tokens)
        shown.append((share, "of input read from a cache", ""))
    if ledger.n_discarded:
        told = f"replies that could not be used or were asked again: {ledger.n_discarded}"
        shown.append((usd(ledger.discarded_usd), "discarded", told))
    if ledger.n_uncertain:
        most = usd(ledger.uncertain_usd) if ledger.uncertain_usd is not None else "unknown"
        shown.append((str(ledger.n_uncertain), "uncertain attempts", f"at most {most}"))
    items = "".join(
        f"<div class=card><strong>{escape(value)}</strong><span>{escape(name)}</span>"
        f"<small>{escape(more)}</small></div>"
        for value, name, more in shown
    )
    return f"<section class=cards>{items}</section>"


def _saved(page: Page) -> list[tuple[str, str, str]]:
    by_name = {scenario.name.partition(" (")[0]: scenario for scenario in page.savings.scenarios}
    run = by_name.get("as run")
    found = []
    for name in ("all frontier", "all small frontier"):
        other = by_name.get(name)
        if run and other and run.usd is not None and other.usd:
            ratio, costs = run.usd / other.usd, f"which costs {usd(other.usd)}"
            if ratio <= 1:
                found.append((f"{1 - ratio:.0%}", f"less than {name}", costs))
            else:
                found.append((f"{ratio:.1f} times", f"the cost of {name}", costs))
    return found


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else ""


def costs(page: Page) -> str:
    """Return a bar per purpose, parted by tier, and what GPUs cost beside the calls."""
    if not page.calls:
        return ""
    groups = grouped(page.calls, shadow=page.measuring)
    purposes = list(dict.fromkeys(group.purpose for group in groups))
    most = max((sum(g.usd for g in groups if g.purpose == p) for p in purposes), default=0.0)
    rows = "".join(_cost_row(p, [g for g in groups if g.purpose == p], most) for p in purposes)
    used = [tier for tier in TIERS if any(group.tier == tier for group in groups)]
    legend = "".join(
        f'<span><i class="bar t{tier}"></i>{tier or "unnoted"}</span>' for tier in used
    )
    return (
        "<section><h2>Cost by purpose and tier</h2>"
        f"<p class=legend>{legend}</p><div class=chart>{rows}</div>{_gpus(page.gpus)}</section>"
    )


def _cost_row(purpose: str, groups: Sequence[Group], most: float) -> str:
    ordered = sorted(groups, key=lambda group: (*TIERS, group.tier).index(group.tier))
    bars = "".join(
        f'<i class="bar t{g.tier}" style="width:{_percent(g.usd, most)}" '
        f'title="{escape(g.tier)}: {usd(g.usd)}, {g.n_calls} calls"></i>'
        for g in ordered
    )
    n_unpriced = sum(group.n_unpriced for group in groups)
    unknown = f", {n_unpriced} of unknown price" if n_unpriced else ""
    total, n_calls = sum(group.usd for group in groups), sum(group.n_calls for group in groups)
    told = f"{usd(total)} · {n_calls:,} calls{unknown}"
    return _row(purpose, bars, told)


def _row(label: str, bars: str, told: str) -> str:
    return (
        f"<div class=row><span class=label>{escape(label)}</span>"
        f"<span class=track>{bars}</span><span class=value>{escape(told)}</span></div>"
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole > 0 else "0"


def _gpus(uses: Sequence[GpuUse]) -> str:
    if not uses:
        return ""
    rows = "".join(
        f"<tr><td>{escape(use.model)}<td>{use.start_s:,.0f}<td>{use.load_s:,.0f}"
        f"<td>{use.busy_s:,.1f}<td>{use.idle_s:,.0f}<td>{usd(use.overhead_usd)}"
        f"<td>{usd(use.usd_per_s * use.busy_s)}</tr>"
        for use in uses
    )
    return (
        "<div class=wide><table><caption>GPU time in seconds, one line per process</caption>"
        "<thead><tr><th>model<th>start<th>load<th>busy<th>idle<th>beside the calls<th>in the calls"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def scenarios(page: Page) -> str:
    """Return what the same steps would have cost, each with its basis and its interval."""
    shown = page.savings.scenarios
    if not shown:
        return ""
    most = max((s.high_usd or s.usd or 0.0 for s in shown), default=0.0)
    rows = "".join(_scenario(scenario, shown[0].usd, most) for scenario in shown)
    return (
        "<section><h2>What it would have cost</h2><div class=chart>"
        f"{rows}</div>{_quality(page)}</section>"
    )


def _scenario(scenario: Scenario, run_usd: float | None, most: float) -> str:
    bar = f'<i class="bar scenario" style="width:{_percent(scenario.usd or 0.0, most)}"></i>'
    told = usd(scenario.usd)
    if scenario.low_usd is not None and scenario.high_usd is not None:
        width = _percent(scenario.high_usd - scenario.low_usd, most)
        bar += (
            f'<i class=whisker style="left:{_percent(scenario.low_usd, most)};width:{width}"></i>'
        )
        told += f" ({usd(scenario.low_usd)} to {usd(scenario.high_usd)})"
    saved = _less(scenario, run_usd) if scenario.name != "as run" else ""
    parts = ", ".join(f"{name} {usd(part)}" for name, part in scenario.by_purpose.items())
    words = f"{scenario.basis}. {saved}By purpose: {parts}."
    return _row(scenario.name, bar, told) + f"<p class=basis>{escape(words)}</p>"


def _less(scenario: Scenario, run_usd: float | None) -> str:
    """Return what the run costs less than a scenario, with the interval where there is one."""
    if run_usd is None or scenario.usd is None:
        return ""
    saved, words = scenario.usd - run_usd, "less"
    ends = [each - run_usd for each in (scenario.low_usd, scenario.high_usd) if each is not None]
    if saved < 0:
        saved, words, ends = -saved, "more", [-each for each in reversed(ends)]
    within = f" ({usd(ends[0])} to {usd(ends[1])}, 95 %)" if len(ends) == 2 else ""
    return f"The run costs {usd(saved)} {words}{within}. "


def _quality(page: Page) -> str:
    found, shadow = page.savings, page.shadow
    if found.agreement is None:
        return (
            "<p class=basis>What quality was given up was not measured: a shadow sample "
            "(<code>shadow_share</code>) asks the frontier too.</p>"
        )
    interval = ", too few for an interval"
    if found.agreement_low is not None and found.agreement_high is not None:
        interval = f" ({found.agreement_low:.2f} to {found.agreement_high:.2f})"
    stopped = f" {escape(shadow.stopped)}" if shadow.stopped else ""
    return (
        f"<p class=basis>Shadow sample: {found.n_samples} of {shadow.n_calls} calls of the "
        f"efficient tier were asked of the frontier too, for "
        f"{usd(_total([pair.shadow_usd for pair in shadow.pairs]))}. Their replies share "
        f"{found.agreement:.2f} of their terms{interval}.{stopped}</p>"
    )


def _total(prices: Sequence[float | None]) -> float | None:
    return None if None in prices else sum(price or 0.0 for price in prices)
