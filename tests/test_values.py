"""Values beside the words they were read from: letters, signs, what is empty, what is open."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, Field

from nemoflows.calls import Reply
from nemoflows.schemas import bounded
from nemoflows.typed.reading import Filled, read_record
from nemoflows.types import Passage


class Bill(BaseModel):
    seller: str = ""
    total: float | None = None
    due: date | None = None


def read_bill(text: str, **fields: tuple[str, Any]) -> Filled[Bill]:
    told = {name: {"quote": quote, "value": value} for name, (quote, value) in fields.items()}
    shape = bounded(Bill, output_tokens=1024)
    whole = Passage(id="b", document="b", start=0, end=len(text), text=text)
    return read_record(Reply(text=json.dumps({"record": told})), shape, whole, final=True)


@pytest.mark.parametrize(
    ("text", "quote", "total"),
    [
        ("Result (45.00) EUR", "(45.00)", -45.0), ("Result (45.00) EUR", "45.00", -45.0),
        ("Result ($1,245.50)", "1,245.50", -1245.5), ("Result -45.00", "45.00", -45.0),
        ("Result \u221245.00", "45.00", -45.0), ("Result 45.00-", "45.00", -45.0),
        ("Result 45.00", "45.00", 45.0), ("Result - 45.00", "45.00", 45.0),
        ("See note (45)", "45", 45.0), ("2024-45.00", "45.00", 45.0),
        ("Total: (45.00)", "45.00", -45.0), ("Total: (45.00), Tax: 3.00", "45.00", -45.0),
        ("Total: (45.00). Paid.", "45.00", -45.0), ("Total: EUR (45.00)\nDue", "(45.00)", -45.0),
        ("| net | (45.00) | 3 |", "(45.00)", -45.0), ("net loss  (45.00)  3.00", "45.00", -45.0),
        ("Net loss for 2024 (45.00) (3.10) 9.00", "45.00", -45.0),
        ("(45.00)\n(3.10)", "45.00", -45.0),
        ("net\t(45.00)\tEUR", "45.00", -45.0), ("Fees\n45.00-\nTotal", "45.00", -45.0),
        ("| 45.00- | 3 |", "45.00", -45.0),
        ("total: (45.00)\ncurrency: EUR", "45.00", -45.0), ("net\t(45.00)\ntax\t3", "45.00", -45.0),
        ("Net loss (45.00)\n\nnotes", "45.00", -45.0),
        ("The annual fee ($95.00) is waived.", "95.00", 95.0),
        ("The annual fee ($95.00) is waived.", "annual fee ($95.00)", 95.0),
        ("Shipping (12.50) is added", "(12.50)", 12.5),
        ("Shipping (12.50)", "(12.50)", 12.5), ("Shipping ($12.50)", "12.50", 12.5),
        ("Adults (12.50)\nChildren (8.00)\nDogs free", "(8.00)", 8.0),
        ("Ticket office\n\nParking (3.50 EUR)\nOpen from 9", "3.50", 3.5),
        ("Sales 310.00\nShipping (12.50)\nWages (200.00)", "(12.50)", -12.5),
        ("Sales 310.00 EUR\nReturns (12.50) EUR", "(12.50)", -12.5),
        ("Change in stock (12.50)", "12.50", -12.5), ("Interest (12.50) (9.10)", "12.50", -12.5),
        ("The fee is waived (95.00).", "95.00", 95.0),
        ("Customers pay the fee\n($95.00) at once.", "95.00", 95.0),
        ("We charge a fee (95.00)\nto all.", "95.00", 95.0),
        ("Fee: (95.00) is waived", "95.00", 95.0),
        ("they have paid us a fee (95.00)", "95.00", 95.0),
        ("It grew by 12.5-\nnext to none", "12.5", 12.5), ("Range 12.5-\n14.0", "12.5", 12.5),
        ("It costs 12.50\u2014 a lot", "12.50", 12.5), ("From 12.5- to 14", "12.5", 12.5),
    ],
)  # fmt: skip
def test_an_amount_has_the_sign_that_the_document_writes(
    text: str, quote: str, total: float
) -> None:
    found = read_bill(text, total=(quote, abs(total)))
    assert found.value is not None
    assert found.value.total == total


@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_value_that_is_empty_beside_a_quote_is_read_from_it_or_named(value: Any) -> None:
    text = "Seller: ACME\nLtd. Total 45.00, due in May."
    found = read_bill(text, seller=("ACME\nLtd.", value), total=("Total 45.00", value))
    assert found.value == Bill(seller="ACME Ltd.", total=45.0)
    open_ = read_bill(text, seller=("ACME", "ACME"), due=("due in May", value))
    assert "due came empty beside the quote 'due in May'" in open_.problem


@pytest.mark.parametrize(
    "quote", ["Seller:", "Seller =", "Seller:\n", "Seller: ____", "Seller: ..."]
)
def test_an_empty_field_of_a_form_is_nothing(quote: str) -> None:
    text = f"Form of May 7, 2024. {quote}\n"
    day = ("May 7, 2024", "2024-05-07")
    found = read_bill(text, seller=(quote, ""), total=(quote, None), due=day)
    assert (found.value, found.problem) == (Bill(due=date(2024, 5, 7)), "")


def test_the_documents_own_letters_are_returned() -> None:
    text = "Seller: M\u00fcller \u2013 \u201cS\u00f6hne\u201d GmbH."
    copied = 'm\u00fcller - "s\u00f6hne" gmbh'
    found = read_bill(text, seller=(copied, copied))
    assert found.value == Bill(seller="M\u00fcller \u2013 \u201cS\u00f6hne\u201d GmbH")
    assert found.spans[0].quote == "M\u00fcller \u2013 \u201cS\u00f6hne\u201d GmbH"


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("Due 03/04/2024.", True), ("Due 3-4-24.", True), ("Due 04/04/2024.", False),
        ("Due 03/14/2024.", False), ("Due 03/04/2024, made 25/03/2024.", False),
        ("Due 03.04.2024.", False), ("Due 2024-03-04.", False),
    ],
)  # fmt: skip
def test_a_date_whose_order_is_open_is_named(text: str, is_open: bool) -> None:
    found = read_bill(text, due=(text[4:].split(",", maxsplit=1)[0].rstrip("."), "2024-03-04"))
    assert ("the day or the month" in found.problem) is is_open


class Dated(BaseModel):
    due: date = Field(description="Due date, DD/MM/YYYY")


def test_a_description_says_which_comes_first() -> None:
    told = {"record": {"due": {"quote": "03/04/2024", "value": "2024-04-03"}}}
    text = "Due 03/04/2024."
    whole = Passage(id="b", document="b", start=0, end=len(text), text=text)
    shape = bounded(Dated, output_tokens=1024)
    found = read_record(Reply(text=json.dumps(told)), shape, whole, final=True)
    assert found.problem == ""
