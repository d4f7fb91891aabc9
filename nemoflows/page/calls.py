"""The part of a report about single calls: when each was made, how long it took, what it cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from html import escape
from statistics import median, quantiles
from typing import Protocol

from nemoflows.money.ledger import Ledger, Spent, discarded
from nemoflows.page.money import usd
from nemoflows.page.values import Page

OPEN_LANES = 40
PAUSE_S = 10.0
"""A time without any call that is longer than this is left out of the timeline."""


def timeline(page: Page) -> str:
    """Return a lane per agent with its calls over time; long pauses are left out."""
    timed = [call for call in page.calls if call.started_s]
    if not timed:
        return ""
    clock = _Clock(timed)
    drawn = [_lane(name, calls, clock) for name, calls in _lanes(page, timed)]
    is_open = " open" if len(drawn) <= OPEN_LANES else ""
    cut = f", {clock.cut_s:,.0f} s of pauses left out" if clock.cut_s else ""
    return (
        f"<section><h2>Timeline</h2><p class=basis>{clock.whole_s:,.1f} s{cut}. Calls stand where "
        "they were made, replayed ones too.</p>"
        f"<details{is_open}><summary>One lane per agent</summary><div class=chart>{''.join(drawn)}"
        "</div></details>"
        "</section>"
    )


class _Clock:
    """Time without its long pauses."""

    def __init__(self, calls: Sequence[Spent]) -> None:
        self._pauses: list[tuple[float, float]] = []
        """Where a pause ends, and how much time is left out before that."""
        self.cut_s, end_s = 0.0, min(call.started_s for call in calls)
        self._began_s = end_s
        for call in sorted(calls, key=lambda each: each.started_s):
            if call.started_s - end_s > PAUSE_S:
                self.cut_s += call.started_s - end_s
                self._pauses.append((call.started_s, self.cut_s))
            end_s = max(end_s, call.started_s + call.seconds)
        self.whole_s = max(1e-6, end_s - self._began_s - self.cut_s)

    def at(self, time_s: float) -> float:
        """Return where a moment stands, in percent."""
        cut_s = max((cut for ends_s, cut in self._pauses if ends_s <= time_s), default=0.0)
        return 100 * (time_s - self._began_s - cut_s) / self.whole_s


def _lanes(page: Page, calls: Sequence[Spent]) -> Iterator[tuple[str, list[Spent]]]:
    """Yield names and calls of lanes: steps before the agents, agents, steps after them."""
    left = {call.key: call for call in calls}
    agents = []
    for number, finding in enumerate(page.findings, 1):
        own = [left.pop(key) for key in finding.calls if key in left]
        agents.append((f"agent {number}", own))
    by_purpose: dict[str, list[Spent]] = {}
    shadow = page.measuring
    for call in left.values():
        by_purpose.setdefault("shadow" if call.key in shadow else call.purpose, []).append(call)
    yield from [("plan", by_purpose.pop("plan"))] if "plan" in by_purpose else []
    yield from [lane for lane in agents if lane[1]]
    yield from by_purpose.items()


def _lane(name: str, calls: Sequence[Spent], clock: _Clock) -> str:
    ticks = "".join(
        f'<i class="tick t{escape(call.tier)}" style="left:{clock.at(call.started_s):.2f}%;'
        f'width:{max(0.3, 100 * call.seconds / clock.whole_s):.2f}%" '
        f'title="{escape(call.purpose)}, {call.seconds:.2f} s"></i>'
        for call in calls
    )
    return (
        f"<div class=row><span class=label>{escape(name)}</span>"
        f"<span class=track>{ticks}</span><span class=value>{len(calls)} calls</span></div>"
    )


def latencies(calls: Sequence[Spent]) -> str:
    """Return the seconds that calls took, by purpose and model."""
    groups: dict[tuple[str, str], list[float]] = {}
    for call in calls:
        groups.setdefault((call.purpose, call.model), []).append(call.seconds)
    rows = "".join(
        f"<tr><td>{escape(purpose)}<td>{escape(model)}<td>{len(seconds):,}"
        f"<td>{median(seconds):.2f}<td>{_p95(seconds):.2f}<td>{max(seconds):.2f}</tr>"
        for (purpose, model), seconds in groups.items()
    )
    if not rows:
        return ""
    return (
        "<section><h2>Latency</h2><div class=wide><table><thead><tr><th>purpose<th>model<th>calls"
        f"<th>median s<th>95 % s<th>longest s</tr></thead><tbody>{rows}</tbody></table></div>"
        "</section>"
    )


def _p95(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


class Costed(Protocol):
    """What was called and what it cost, whatever page shows it."""

    @property
    def calls(self) -> list[Spent]:
        """Return the calls, in order."""

    @property
    def ledger(self) -> Ledger:
        """Return what they cost."""

    @property
    def tiers(self) -> dict[str, str]:
        """Return each tier's model."""

    @property
    def uncertain(self) -> list[str]:
        """Return the attempts that were cut off."""

    @property
    def durable(self) -> bool:
        """Return whether the run had a journal."""


def table(page: Costed, *, shadow: Collection[str] = ()) -> str:
    """Return every call in a table, and what is not in it.

    Args:
        shadow: Keys of calls that only measure.
    """
    tiers = "; ".join(f"{tier}: {model}" for tier, model in page.tiers.items())
    lost = "" if page.durable else "<p>This run was not durable: a restart pays again.</p>"
    if page.uncertain:
        cut = "".join(f"<li>{escape(attempt)}</li>" for attempt in page.uncertain)
        lost += f"<p>Cut off, perhaps billed, asked again:</p><ul class=notes>{cut}</ul>"
    if not page.calls:
        unknown = page.ledger.n_unrecorded
        note = "No model was called: the embedded tier generates nothing."
        note = f"{unknown} calls were made and not recorded." if unknown else note
        return f"<section><h2>Calls</h2><p>{escape(tiers)}</p><p>{note}</p>{lost}</section>"
    gone, measuring = discarded(page.calls), set(shadow)
    rows = "".join(_call(call, call.key in gone, call.key in measuring) for call in page.calls)
    return (
        f"<section><h2>Calls</h2><p>{escape(tiers)}</p>{lost}"
        "<p class=filter hidden><label>Filter <input type=search id=filter></label> "
        f"<output id=shown>{len(page.calls):,} calls</output></p><div class=wide><table id=calls>"
        "<thead><tr><th>purpose<th>task<th>tier<th>model<th>in<th>of it cached<th>out"
        f"<th>seconds<th>USD<th>notes<th>key</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _call(call: Spent, is_discarded: bool, is_shadow: bool) -> str:
    usage = call.usage
    notes = [
        "replayed" if call.replayed else "",
        "escalated" if call.task == "escalate" else "",
        "shadow" if is_shadow else "",
        call.reason or ("asked again" if is_discarded else ""),
    ]
    cells = [
        call.purpose,
        call.task,
        call.tier,
        call.model,
        f"{usage.all_input_tokens:,}",
        f"{usage.cache_read_tokens:,}" if usage.cache_read_tokens else "",
        f"{usage.output_tokens:,}",
        f"{call.seconds:.2f}",
        usd(call.usd),
        ", ".join(filter(None, notes)),
        call.key[:12],
    ]
    return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells)
