"""The ledger."""

from __future__ import annotations

from nemoflows.calls import Usage
from nemoflows.money.ledger import Ledger, Spent, fold

USAGE = Usage(input_tokens=2_000, output_tokens=500)


def spent(key: str, *, replayed: bool = False, usd: float | None = 1.0) -> Spent:
    return Spent(key=key, purpose="plan", model="m", usage=USAGE, usd=usd, replayed=replayed)


def test_the_ledger_counts_a_key_once() -> None:
    ledger = fold([spent("a"), spent("a", replayed=True), spent("b", replayed=True)])
    assert (ledger.n_calls, ledger.n_replayed) == (2, 1)
    assert (ledger.usd, ledger.paid_now_usd) == (2.0, 1.0)
    assert ledger.usage == USAGE + USAGE


def test_a_key_replayed_before_it_was_paid_here_counts_as_paid() -> None:
    assert fold([spent("a", replayed=True), spent("a")]).paid_now_usd == 1.0


def test_unknown_prices_are_said_not_added() -> None:
    ledger = fold([spent("a", usd=None), spent("b")])
    assert (ledger.n_unpriced, ledger.usd) == (1, 1.0)
    assert "1 of unknown price" in str(ledger)


def test_what_has_no_price_is_never_told_as_nothing() -> None:
    unknown = [spent(key, usd=None) for key in "abc"]
    told = str(fold(unknown))
    assert told.startswith("cost: unknown (3 calls of unknown price; ")
    assert "$" not in told
    some = str(fold([*unknown, spent("d").model_copy(update={"usd": 0.5})]))
    assert some.startswith("cost: at least $0.50 for 4 calls, 3 of unknown price (")
    assert "; paid now at least $0.50, 0 replayed" in some
    free = [each.model_copy(update={"replayed": True}) for each in [*unknown, spent("d")]]
    assert "; paid now $0, 4 replayed" in str(fold(free))


def test_what_was_paid_here_is_unknown_only_where_that_has_no_price() -> None:
    old, new = spent("a", usd=None, replayed=True), spent("b", usd=None)
    assert fold([old, spent("c")]).paid_now == "$1.00"
    assert fold([new, spent("c", replayed=True)]).paid_now == "unknown"
    assert fold([new, spent("c")]).paid_now == "at least $1.00"
    assert "; paid now unknown, 1 replayed" in str(fold([new, spent("c", replayed=True)]))


def test_gpu_time_beside_the_calls_is_in_the_cost_and_said() -> None:
    told = str(fold([spent("a"), spent("b")], overhead_usd=0.5))
    assert told.startswith("cost: $2.50 for 2 calls and $0.50 of GPU time beside them (")
    assert "$0.50 of GPU time" in str(fold([], overhead_usd=0.5))


def test_one_is_not_many_and_a_sample_is_not_the_work() -> None:
    told = str(fold([spent("a")], shadow=[spent("b"), spent("b")], n_in_doubt=1, n_unrecorded=1))
    assert told.startswith("cost: $1.00 for 1 call (")
    assert "; 1 call was not recorded; 1 attempt cut off" in told
    assert told.endswith("; shadow sample: 1 call, $1.00")


def test_calls_that_no_journal_holds_are_not_called_free() -> None:
    assert str(fold([], n_unrecorded=2)) == "cost: unknown; 2 calls were not recorded"
    assert "2 calls were not recorded" in str(fold([spent("a")], n_unrecorded=2))


def test_a_cascade_of_a_users_own_counts_as_escalated() -> None:
    again = spent("b").model_copy(update={"task": "triage", "escalated": True})
    ledger = fold([spent("a"), again])
    assert (ledger.n_escalated, ledger.escalated_usd) == (1, 1.0)


def test_replies_that_could_not_be_used_are_counted_as_such() -> None:
    ledger = fold([spent("a").model_copy(update={"reason": "invalid"}), spent("b")])
    assert (ledger.n_unusable, ledger.n_discarded, ledger.discarded_usd) == (1, 1, 1.0)
    assert str(ledger).endswith("; 1 reply could not be used")


def test_the_cost_line_of_nothing_says_so() -> None:
    assert str(Ledger()) == "cost: $0 (no model was called)"
