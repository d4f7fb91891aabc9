"""Gates between tiers: what counts as covered, and what is enough."""

from __future__ import annotations

import pytest

from nemoflows.language.terms import terms
from nemoflows.rag.gates import ENOUGH_COVERAGE, coverage, is_enough
from nemoflows.types import Evidence


def quote(text: str, heading: str = "") -> Evidence:
    return Evidence(quote=text, document="d.md", start=0, end=len(text), heading=heading)


def test_evidence_that_holds_every_term_covers_all() -> None:
    found = coverage("How long is the Elbe?", [quote("The Elbe is long.")])
    assert (found.share, found.missing) == (1.0, [])


def test_unrelated_evidence_covers_nothing() -> None:
    found = coverage("How long is the Elbe?", [quote("Rye bread keeps for a week.")])
    assert found.share == 0.0
    assert found.missing == terms("long Elbe")


def test_longer_terms_weigh_more() -> None:
    question = "cat elephant"
    with_long = coverage(question, [quote("an elephant")]).share
    with_short = coverage(question, [quote("a cat")]).share
    assert with_long > 0.5 > with_short
    assert with_long + with_short == pytest.approx(1.0)


def test_a_share_is_that_of_the_terms_letters() -> None:
    assert coverage("abc defg", [quote("abc")]).share == pytest.approx(3 / 7)


def test_missing_terms_are_in_the_questions_order_once_each() -> None:
    found = coverage("zebra apple zebra mango", [quote("an apple")])
    assert found.missing == terms("zebra mango")


def test_a_repeated_term_weighs_once() -> None:
    once, often = coverage("cat dog", [quote("cat")]), coverage("cat dog dog dog", [quote("cat")])
    assert once == often


def test_a_heading_covers_nothing() -> None:
    headed = quote("It is 1,094 kilometres.", "The Elbe")
    assert coverage("Elbe", [headed]).share == 0.0
    assert coverage("kilometres", [headed]).share == 1.0


def test_terms_may_be_spread_over_several_quotes() -> None:
    pieces = [quote("Hamburg is a port."), quote("The Elbe is a river.")]
    assert coverage("Hamburg Elbe", pieces[:1]).share < 1.0
    assert coverage("Hamburg Elbe", pieces).share == 1.0


def test_inflected_words_are_the_same_term() -> None:
    assert coverage("founded harbours", [quote("The harbour was FOUNDED.")]).missing == []


@pytest.mark.parametrize("question", ["", "   ", "?!", "What is it?"])
def test_a_question_without_terms_is_covered_by_any_evidence_and_by_none_without(
    question: str,
) -> None:
    assert coverage(question, [quote("x")]).share == 1.0
    assert coverage(question, []).share == 0.0
    assert coverage(question, []).missing == []


def test_no_evidence_covers_no_question_with_terms() -> None:
    found = coverage("Elbe", [])
    assert (found.share, found.missing) == (0.0, terms("Elbe"))
    assert not is_enough("Elbe", [])


@pytest.mark.parametrize(
    ("held", "missing", "enough"),
    [
        ("abcdef", "wxyz", True),  # 6 of 10 letters: the border itself
        ("abcdef", "wxyzq", False),
        ("abcdefg", "wxyz", True),
    ],
)
def test_enough_begins_at_the_border_itself(held: str, missing: str, enough: bool) -> None:
    question = f"{held} {missing}"
    assert terms(question) == [held, missing]
    assert is_enough(question, [quote(held)]) is enough
    assert (coverage(question, [quote(held)]).share >= ENOUGH_COVERAGE) is enough


def test_without_evidence_nothing_is_enough_even_where_nothing_is_asked() -> None:
    assert not is_enough("", [])
