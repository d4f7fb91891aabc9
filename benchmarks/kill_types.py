"""What the kill matrix counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

MOST_UNSENT = 5
"""Attempts that a kill may meet between their announcement and their bytes. An announcement comes
first, or a paid call could go unnamed; a limit of 20 a second lets five through while an object
store takes a quarter of a second to say that it has one."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """What a sequence of kills and the final run came to, or several together."""

    kills: int
    calls: int
    """Distinct requests: the ideal."""
    in_flight: int
    """Requests that the provider had and the journal had not, summed over the kills."""
    extra: int
    in_doubt: int
    repeated: int
    unnamed: int
    same: bool
    unsent: int = 0
    """Under a limit of requests per minute: attempts in doubt beyond what the provider had."""
    budget_off: int = 0
    """There, too: whether what a budget counts is below the bill, or above it by more than one
    reservation per attempt in doubt."""

    @property
    def holds(self) -> bool:
        """Return whether every promise was kept."""
        unsent = self.unsent > MOST_UNSENT * self.kills
        broken = self.repeated or self.unnamed or self.budget_off or unsent
        return not broken and self.same and self.extra <= self.in_flight


def together(sequels: Sequence[Sequel]) -> Sequel:
    """Return what sequences came to as one: counts are added, and all must be the same."""
    counts = [field.name for field in fields(Sequel) if field.name != "same"]
    sums = {name: sum(getattr(sequel, name) for sequel in sequels) for name in counts}
    return Sequel(**sums, same=all(sequel.same for sequel in sequels))
