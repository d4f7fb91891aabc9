"""What the kill matrix counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sequel:
    """What one sequence of kills and the final run came to."""

    kills: int
    calls: int
    """Distinct requests: the ideal."""
    in_flight: int
    """Requests that the provider had and the journal had not, summed over the kills."""
    extra: int
    uncertain: int
    repeated: int
    unnamed: int
    same: bool
