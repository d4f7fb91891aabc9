"""The part of a report about single calls: when each was made, how long it took, its notes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from math import inf
from operator import not_
from statistics import quantiles

from nemoflows.money.ledger import Spent, counted, discarded
from nemoflows.reporting.chart import Bar, Row
from nemoflows.reporting.data import ReportData

PAUSE_S = 10.0
"""A time without any call that is longer than this is left out of the timeline."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A lane per agent or step with its calls over time."""

    lanes: list[Row]
    whole_s: float
    """Seconds that are shown."""
    cut_s: float
    """Seconds of pauses that are left out."""


def timeline(data: ReportData) -> Timeline | None:
    """Return when calls were made, without long pauses; None where no call says when."""
    timed = [call for call in data.calls if call.started_s]
    if not timed:
        return None
    clock = _Clock(timed)
    lanes = [
        Row(name, [_tick(call, clock) for call in calls], counted(len(calls), "call"))
        for name, calls in _lanes(data, timed)
    ]
    return Timeline(lanes, clock.whole_s, clock.cut_s)


def _tick(call: Spent, clock: _Clock) -> Bar:
    return Bar(
        kind=f"tick t{call.tier}",
        width=max(0.3, 100 * call.seconds / clock.whole_s),
        left=clock.percent(call.started_s),
        title=f"{call.purpose}, {call.seconds:.2f} s",
    )


class _Clock:
    """Time without its long pauses."""

    def __init__(self, calls: Sequence[Spent]) -> None:
        self._ends_s: list[float] = []
        """Where pauses end, in order."""
        self._cuts_s = [0.0]
        """How much time is left out before the first pause's end, the second's, and so on."""
        self._began_s = end_s = min(call.started_s for call in calls)
        for call in sorted(calls, key=lambda call: call.started_s):
            if call.started_s - end_s > PAUSE_S:
                self._ends_s.append(call.started_s)
                self._cuts_s.append(self.cut_s + call.started_s - end_s)
            end_s = max(end_s, call.started_s + call.seconds)
        self.whole_s = max(1e-6, end_s - self._began_s - self.cut_s)

    @property
    def cut_s(self) -> float:
        """Return how much time is left out in all."""
        return self._cuts_s[-1]

    def percent(self, time_s: float) -> float:
        """Return where a moment stands."""
        cut_s = self._cuts_s[bisect_right(self._ends_s, time_s)]
        return 100 * (time_s - self._began_s - cut_s) / self.whole_s


def _lanes(data: ReportData, calls: Sequence[Spent]) -> list[tuple[str, list[Spent]]]:
    """Return names and calls of lanes: steps before the agents, agents, steps after them."""
    left = {call.key: call for call in calls}
    agents = [
        (f"agent {number}", [left.pop(key) for key in finding.calls if key in left])
        for number, finding in enumerate(data.findings, 1)
    ]
    began_s = min((call.started_s for _, own in agents for call in own), default=inf)
    by_step: dict[str, list[Spent]] = {}
    measuring = data.measuring
    for call in left.values():
        step = "shadow" if call.key in measuring else call.purpose
        by_step.setdefault(step, []).append(call)
    steps = list(by_step.items())
    is_earlier = [min(call.started_s for call in own) < began_s for _, own in steps]
    return [
        *compress(steps, is_earlier),
        *(lane for lane in agents if lane[1]),
        *compress(steps, map(not_, is_earlier)),
    ]


def durations(calls: Sequence[Spent]) -> dict[tuple[str, str], list[float]]:
    """Return the seconds that calls took, by step and model."""
    groups: dict[tuple[str, str], list[float]] = {}
    for call in calls:
        groups.setdefault((call.purpose, call.model), []).append(call.seconds)
    return groups


def p95(seconds: Sequence[float]) -> float:
    """Return what 95 % of calls stay below."""
    return quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


def noted_calls(data: ReportData) -> Iterator[tuple[Spent, str]]:
    """Yield every call with what is to be said about it."""
    again, measuring = discarded(data.calls), data.measuring
    for call in data.calls:
        notes = (
            "replayed" if call.replayed else "",
            "escalated" if call.escalated else "",
            "shadow" if call.key in measuring else "",
            call.reason or ("asked again" if call.key in again else ""),
        )
        yield call, ", ".join(filter(None, notes))
