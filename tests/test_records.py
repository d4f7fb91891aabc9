"""Replies read into a user's model: values checked, quotes found, what fails is named."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nemoflows.calls import Reply
from nemoflows.errors import BadReply
from nemoflows.schemas import Shape, bounded
from nemoflows.typed.reading import NOTHING, Filled, read_record
from nemoflows.types import Passage

TEXT = """INVOICE 0417 of 3 November 2026
Rye   bread   4.20
Scones        3.10
Total: 7.30 EUR
Paid by card ending 9921. Straße 5, “Zürich” 🥨
"""
PASSAGE = Passage(id="bill.txt:100-300", document="bill.txt", start=100, end=300, text=TEXT)


class Line(BaseModel):
    item: str
    amount: Decimal = Field(ge=0)
    note: str | None = None


class Address(BaseModel):
    street: str
    zip: str = Field(pattern=r"^\d{4}$")


class Card(BaseModel):
    kind: Literal["card"] = "card"
    digits: int = Field(ge=0, le=9999)


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    given: float


class Bill(BaseModel):
    number: str = Field(pattern=r"^\d+$")
    on: date | None = None
    total: float = Field(ge=0, le=1000)
    currency: Literal["EUR", "CHF"] = "CHF"
    lines: list[Line] = Field(default_factory=list)
    sent_to: Address | None = None
    paid: Annotated[Card | Cash, Field(discriminator="kind")] | None = None


SHAPE = bounded(Bill, output_tokens=4096)


def leaf(value: Any, quote: str) -> dict[str, Any]:
    return {"quote": quote, "value": value}


GOOD: dict[str, Any] = {
    "number": leaf("0417", "INVOICE 0417"),
    "on": leaf("2026-11-03", "3 November 2026"),
    "total": leaf(7.3, "Total: 7.30"),
    "currency": leaf("EUR", "EUR"),
    "lines": [
        {"item": leaf("Rye bread", "Rye bread"), "amount": leaf("4.20", "4.20"), "note": None},
        {"item": leaf("Scones", "Scones"), "amount": leaf("3.10", "3.10"), "note": leaf("", "")},
    ],
    "sent_to": {"street": leaf("", ""), "zip": leaf("", "")},
    "paid": {"kind": "card", "digits": leaf(9921, "card ending 9921")},
}


def read(
    record: Any,
    *,
    final: bool = False,
    shape: Shape[Any] = SHAPE,
    passage: Passage = PASSAGE,
) -> Filled[Any]:
    reply = Reply(text=json.dumps({"record": record}))
    return read_record(reply, shape, passage, final=final)


def test_a_good_reply_is_the_users_model_and_a_span_for_every_value() -> None:
    filled = read(GOOD)
    assert filled.problem == ""
    assert filled.value == Bill(
        number="0417",
        on=date(2026, 11, 3),
        total=7.3,
        currency="EUR",
        lines=[
            Line(item="Rye bread", amount=Decimal("4.20")),
            Line(item="Scones", amount=Decimal("3.10")),
        ],
        paid=Card(digits=9921),
    )
    assert [span.field for span in filled.spans] == [
        "number", "on", "total", "currency", "lines[0].item", "lines[0].amount",
        "lines[1].item", "lines[1].amount", "paid.digits",
    ]  # fmt: skip


def test_spans_are_verbatim_at_their_offsets_in_the_document() -> None:
    filled = read(GOOD)
    for span in filled.spans:
        assert span.document == "bill.txt"
        assert TEXT[span.start - 100 : span.end - 100] == span.quote
    (item,) = [span for span in filled.spans if span.field == "lines[0].item"]
    assert item.quote == "Rye   bread"


def test_an_invented_quote_is_an_error_first() -> None:
    with pytest.raises(BadReply, match=r"total: 'Total: 8\.30' is not in the passage"):
        read({**GOOD, "total": leaf(8.3, "Total: 8.30")})


def test_at_the_last_try_a_needed_value_loses_its_span_and_is_named() -> None:
    filled = read({**GOOD, "total": leaf(8.3, "Total: 8.30")}, final=True)
    assert filled.value is not None
    assert filled.value.total == 8.3
    assert "total" not in {span.field for span in filled.spans}
    assert "total: 'Total: 8.30' is not in the passage" in filled.problem


def test_at_the_last_try_an_optional_value_without_its_quote_is_left_out() -> None:
    invented = leaf("2026-01-01", "1 January 2026")
    filled = read({**GOOD, "on": invented, "currency": leaf("EUR", "euros")}, final=True)
    assert filled.value is not None
    assert filled.value.on is None
    assert filled.value.currency == "CHF"
    assert "on: '1 January 2026'" in filled.problem


def test_a_needed_value_that_the_passage_lacks_is_an_answer_and_no_error() -> None:
    filled = read({**GOOD, "total": leaf(0, " ")})
    assert filled.value is None
    assert filled.problem == "not in the passage: total."
    assert "number" in {span.field for span in filled.spans}


@pytest.mark.parametrize("empty", [{}, {"number": leaf("", ""), "lines": []}, {"lines": None}])
def test_a_passage_without_the_record_says_so(empty: Any) -> None:
    assert read(empty) == Filled(None, problem=NOTHING)


def test_the_users_own_bounds_are_checked_in_code() -> None:
    with pytest.raises(BadReply, match="number: String should match pattern"):
        read({**GOOD, "number": leaf("INVOICE", "INVOICE")})
    with pytest.raises(BadReply, match="total is out of range"):
        read({**GOOD, "total": leaf(10**30, "Total: 7.30")})
    with pytest.raises(BadReply, match=r"lines\[0\]\.amount: .*greater than or equal to 0"):
        read({**GOOD, "lines": [{"item": leaf("x", "Rye"), "amount": leaf("-1", "4.20")}]})
    filled = read({**GOOD, "number": leaf("INVOICE", "INVOICE")}, final=True)
    assert filled.value is None
    assert "number: String should match pattern" in filled.problem


def test_an_optional_part_that_breaks_a_bound_is_left_out_with_its_spans() -> None:
    bad = {"street": leaf("Straße 5", "Straße 5"), "zip": leaf("Zürich", "“Zürich”")}
    filled = read({**GOOD, "sent_to": bad}, final=True)
    assert filled.value is not None
    assert filled.value.sent_to is None
    assert filled.value.total == 7.3
    assert not any(span.field.startswith("sent_to") for span in filled.spans)
    assert "sent_to.zip: String should match pattern" in filled.problem


def test_an_optional_part_with_a_gap_is_left_out_and_the_gap_named() -> None:
    half = {"street": leaf("Straße 5", "Straße 5"), "zip": leaf("", "")}
    filled = read({**GOOD, "sent_to": half})
    assert filled.value is not None
    assert filled.value.sent_to is None
    assert filled.problem == "not in the passage: sent_to.zip."


def test_a_required_field_that_may_be_null_is_null() -> None:
    class Maybe(BaseModel):
        name: str
        age: int | None

    shape = bounded(Maybe, output_tokens=1024)
    filled = read({"name": leaf("Zürich", "Zürich")}, shape=shape)
    assert filled.value == Maybe(name="Zürich", age=None)


def test_texts_and_lists_that_fill_their_room_are_named_as_cut() -> None:
    class Story(BaseModel):
        text: str
        short: str = Field(max_length=3)
        words: list[str]

    shape = bounded(Story, output_tokens=512)
    whole = "a" * shape.room.text
    passage = PASSAGE.model_copy(update={"text": f"{whole} abc"})
    filled = read(
        {
            "text": leaf(whole, whole),
            "short": leaf("abc", "abc"),
            "words": [leaf("a", "a")] * shape.room.items,
        },
        shape=shape,
        passage=passage,
    )
    assert filled.value is not None
    assert filled.problem == (
        f"text may go on after {shape.room.text} characters; "
        f"words may go on after {shape.room.items} entries."
    )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a bare value", {"total": 7.3}, "total must be an object with `quote` and `value`"),
    ("no value", {"total": {"quote": "Total: 7.30"}}, "total must be an object"),
    ("a quote that is no text", {"total": leaf(7.3, 1)}, "total must be an object"),  # type: ignore[arg-type]
    ("no list", {"lines": {"item": 1}}, "lines must be a list"),
    ("no record", {"sent_to": "Straße 5"}, "sent_to must be an object"),
    ("an unknown kind", {"paid": {"kind": "gold"}}, "paid must be an object whose 'kind'"),
    ("text for a number", {"total": leaf("seven", "Total: 7.30")}, "total: Input should be"),
    ("an unknown choice", {"currency": leaf("USD", "EUR")}, "currency: Input should be 'EUR'"),
    ("no date", {"on": leaf("3 November", "3 November 2026")}, "on: Input should be a valid date"),
    ("not a number", {"total": leaf(float("nan"), "Total: 7.30")}, "total is out of range"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG])
def test_a_wrong_shape_is_told_and_at_last_survived(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadReply, match=words.replace("[", r"\[")):
        read({**GOOD, **change})
    assert words in read({**GOOD, **change}, final=True).problem


def test_what_is_no_record_at_all_is_always_an_error() -> None:
    for text in ("", "hello", "[]", '{"record": []}', '{"other": {}}'):
        with pytest.raises(BadReply, match="The reply"):
            read_record(Reply(text=text), SHAPE, PASSAGE, final=True)


@pytest.mark.parametrize("depth", [150, 300, 600, 900, 5000])
def test_a_reply_nested_too_deep_is_a_bad_one_and_no_crash(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    text = json.dumps({"record": {**GOOD, "total": leaf("DEEP", "Total: 7.30")}})
    with pytest.raises(BadReply):
        read_record(Reply(text=text.replace('"DEEP"', deep)), SHAPE, PASSAGE, final=False)


def test_a_strict_model_takes_dates_from_the_text() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        on: date

    shape = bounded(Strict, output_tokens=512)
    filled = read({"on": leaf("2026-11-03", "3 November 2026")}, shape=shape)
    assert filled.value == Strict(on=date(2026, 11, 3))


def test_whatever_a_users_validator_raises_is_data() -> None:
    class Picky(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _known(cls, name: str) -> str:
            return {"known": "x"}[name]

    class Sum(BaseModel):
        a: int

        @model_validator(mode="after")
        def _adds(self) -> Sum:
            raise ValueError("does not add up")

    for model, reply, words in (
        (Picky, {"name": leaf("Zürich", "Zürich")}, "the record: KeyError: 'Zürich'"),
        (Sum, {"a": leaf(5, "5")}, "the record: Value error, does not add up"),
    ):
        shape: Shape[Any] = bounded(model, output_tokens=512)
        with pytest.raises(BadReply, match="the record"):
            read(reply, shape=shape)
        filled = read(reply, shape=shape, final=True)
        assert filled.value is None
        assert words in filled.problem


def test_a_long_list_of_faults_is_shown_in_part() -> None:
    lines = [{"item": leaf("x", f"invented {n}"), "amount": leaf("1", "4.20")} for n in range(9)]
    with pytest.raises(BadReply, match="and 4 more"):
        read({**GOOD, "lines": lines})


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the replies that a decoder held to the schema could write."""
    if "anyOf" in schema:
        return st.one_of(*map(instances, schema["anyOf"]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: dict[str, Any] = {
        "object": lambda: st.fixed_dictionaries(
            {name: instances(part) for name, part in schema["properties"].items()}
        ),
        "array": lambda: st.lists(
            instances(schema["items"]), max_size=min(3, schema.get("maxItems", 0))
        ),
        "string": lambda: st.one_of(
            st.sampled_from(["", "Total: 7.30", "0417", "Rye bread", "2026-11-03", "4.20"]),
            st.text(max_size=schema.get("maxLength", 0)),
        ).map(lambda text: text[: schema["maxLength"]]),
        "integer": lambda: st.integers(schema["minimum"], schema["maximum"]),
        "number": lambda: st.floats(schema["minimum"], schema["maximum"]),
    }
    strategy: st.SearchStrategy[Any] = kinds[schema["type"]]()
    return strategy


@settings(max_examples=150, deadline=None)
@given(reply=instances(SHAPE.schema), final=st.booleans())
def test_whatever_fits_the_schema_is_read_or_refused_with_words(reply: Any, final: bool) -> None:
    try:
        filled = read_record(Reply(text=json.dumps(reply)), SHAPE, PASSAGE, final=final)
    except BadReply as error:
        assert not final
        assert error.message  # noqa: PT017  (not every reply is refused)
        return
    assert (filled.value is not None) or filled.problem
    for span in filled.spans:
        assert TEXT[span.start - 100 : span.end - 100] == span.quote
    if filled.value is not None:
        assert Bill.model_validate_json(filled.value.model_dump_json()) == filled.value


@settings(max_examples=60, deadline=None)
@given(
    total=st.floats(0, 1000),
    number=st.from_regex(r"[0-9]{1,9}", fullmatch=True),
    currency=st.sampled_from(["EUR", "CHF"]),
)
def test_what_the_passage_gives_validates_as_the_model_dumps_it(
    total: float, number: str, currency: str
) -> None:
    bill = Bill(number=number, total=total, currency=currency)  # type: ignore[arg-type]
    dumped = bill.model_dump(mode="json", include={"number", "total", "currency"})
    reply = {name: leaf(value, "Total: 7.30") for name, value in dumped.items()}
    assert read(reply).value == bill


class Purchase(BaseModel):
    vendor: str
    quantity: int
    total: float


PURCHASE = bounded(Purchase, output_tokens=512)
PURCHASE_TEXT = "Invoice INV-2041 of ACME Tools Ltd.: 2 x 12.50, total 1,029.20 euros."


def purchase(**leaves: tuple[str, object]) -> Filled[Purchase]:
    told = {"vendor": ("ACME Tools Ltd.", "ACME Tools"), "quantity": ("2", 2)}
    told |= {"total": ("1,029.20", 1029.2)} | leaves
    record = {name: {"quote": quote, "value": value} for name, (quote, value) in told.items()}
    read = Passage(id="b", document="b.md", start=0, end=len(PURCHASE_TEXT), text=PURCHASE_TEXT)
    return read_record(Reply(text=json.dumps({"record": record})), PURCHASE, read, final=False)


def test_a_value_that_agrees_with_its_quote_raises_no_doubt() -> None:
    assert purchase().problem == ""
    [span] = [span for span in purchase().spans if span.field == "quantity"]
    assert span.start == PURCHASE_TEXT.index("2 x"), "a whole word, not the 2 inside 2041"


@pytest.mark.parametrize(
    ("leaf", "said"), [("total", ("1,029.20", 1000)), ("vendor", ("ACME Tools Ltd.", "Other Corp"))]
)
def test_a_value_that_contradicts_its_quote_is_named(leaf: str, said: tuple[str, object]) -> None:
    filled = purchase(**{leaf: said})
    assert filled.value is not None
    assert f"{leaf}: '{said[1]}' does not stand in its quote" in filled.problem
