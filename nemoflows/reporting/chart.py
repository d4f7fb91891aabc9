"""What a chart of a report is made of: rows with bars, in percent of the row's width."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a row."""

    kind: str
    """Its CSS classes."""
    width: float
    """Percent."""
    left: float | None = None
    """Percent; None stands beside the bar before it."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a chart."""

    label: str
    bars: list[Bar]
    value: str
    basis: str = ""
    """Where the value comes from; shown below the row."""


def percent(part: float, whole: float) -> float:
    """Return a part in percent; 0 of nothing."""
    return 100 * part / whole if whole > 0 else 0.0
