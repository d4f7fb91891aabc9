"""What the kill matrix counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields


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
        broken = self.repeated or self.unnamed or self.unsent or self.budget_off
        return not broken and self.same and self.extra <= self.in_flight


def together(sequels: Sequence[Sequel]) -> Sequel:
    """Return what sequences came to as one: counts are added, and all must be the same."""
    counts = [field.name for field in fields(Sequel) if field.name != "same"]
    sums = {name: sum(getattr(sequel, name) for sequel in sequels) for name in counts}
    return Sequel(**sums, same=all(sequel.same for sequel in sequels))
