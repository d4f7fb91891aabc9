from datetime import date

from lending.loans import Loan, days_late, fine_cents, open_fines

LOAN = Loan("Middlemarch", "Ada", date(2026, 3, 2))


def test_a_book_is_due_after_three_weeks() -> None:
    assert LOAN.due == date(2026, 3, 23)


def test_a_renewal_adds_three_weeks() -> None:
    assert Loan("Middlemarch", "Ada", date(2026, 3, 2), renewals=1).due == date(2026, 4, 13)


def test_a_book_that_comes_back_in_time_is_not_late() -> None:
    assert days_late(LOAN, date(2026, 3, 23)) == 0


def test_a_day_late_costs_twenty_cents() -> None:
    assert fine_cents(LOAN, date(2026, 3, 24)) == 20


def test_a_fine_has_an_upper_limit() -> None:
    assert fine_cents(LOAN, date(2027, 3, 24)) == 500


def test_readers_without_a_fine_are_left_out() -> None:
    loans = [LOAN, Loan("Emma", "Bo", date(2026, 3, 20))]
    assert open_fines(loans, date(2026, 3, 25)) == {"Ada": 40}
