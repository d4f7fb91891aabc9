"""Loans and what they cost when books come back late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

LOAN_DAYS = 21
"""How long a book may be kept."""
FINE_CENTS_PER_DAY = 20
MAX_FINE_CENTS = 500


@dataclass(frozen=True)
class Loan:
    """A book that somebody has taken home."""

    book: str
    reader: str
    taken: date
    renewals: int = 0

    @property
    def due(self) -> date:
        """Return the last day on which the book can come back without a fine."""
        return self.taken + timedelta(days=LOAN_DAYS * (1 + self.renewals))


def days_late(loan: Loan, returned: date) -> int:
    """Return how many days after it was due a book came back; 0 where it was in time."""
    return max(0, (returned - loan.due).days)


def fine_cents(loan: Loan, returned: date) -> int:
    """Return the fine: so much per day, and never more than the highest fine."""
    fine = days_late(loan, returned) * FINE_CENTS_PER_DAY
    return max(fine, MAX_FINE_CENTS)


def open_fines(loans: list[Loan], today: date) -> dict[str, int]:
    """Return what each reader owes today, readers without a fine left out."""
    owed: dict[str, int] = {}
    for loan in loans:
        fine = fine_cents(loan, today)
        if fine:
            owed[loan.reader] = owed.get(loan.reader, 0) + fine
    return owed
