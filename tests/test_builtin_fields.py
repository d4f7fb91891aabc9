"""The builtin tier fills in records by rules: labels, typed patterns, sentences, else nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from nemoflows.engines.builtin.engine import Builtin
from nemoflows.engines.builtin.fields import fill
from nemoflows.engines.builtin.patterns import plain
from nemoflows.llm.bound import BoundClient
from nemoflows.schemas import HINTS, bounded
from nemoflows.typed.extract import fill_records
from nemoflows.typed.types import Extraction
from nemoflows.types import ModelRef, Passage
from tests.support import make_llm


class Order(BaseModel):
    number: str = Field(description="Order number")
    ordered: dt.date | None = Field(default=None, description="Date of the order")
    status: Literal["open", "shipped", "cancelled"] | None = None
    contact: str | None = Field(default=None, description="E-mail of the customer")
    express: bool | None = Field(default=None, description="Express delivery")
    pieces: int | None = Field(default=None, description="Number of pieces")
    total: Decimal | None = Field(default=None, description="Total to pay")
    tags: list[str] = Field(default_factory=list)


ORDER = """Order number: A-1733
Date 5 March 2026, changed 2026-03-09
Express: yes
Pieces: 12
Shipping 4.90
Total: EUR 1,204.90
The order was shipped from Hamburg.
Tags: garden, tools
"""


def read(model: type[BaseModel], text: str, tmp_path: Path) -> Extraction[Any]:
    passage = Passage(id="p", document="p.txt", start=7, end=7 + len(text), text=text)
    client = BoundClient(llm=make_llm(Builtin(), tmp_path, endpoint="builtin"), model=ModelRef())
    shape = bounded(model, output_tokens=4096)
    (row,) = asyncio.run(fill_records([passage], shape=shape, client=client))
    for span in row.spans:
        assert text[span.start - 7 : span.end - 7] == span.quote
    return row


def one(kind: Any, text: str, tmp_path: Path, *, name: str = "x", said: str = "") -> Any:
    """Return what is read for a model of one optional field."""
    fields = {name: kind | None}
    space = {"__annotations__": fields, name: Field(default=None, description=said)}
    model: type[BaseModel] = type("One", (BaseModel,), space)
    value = read(model, text, tmp_path).value
    return getattr(value, name) if value else None


def test_labels_and_looks_fill_a_typed_record(tmp_path: Path) -> None:
    row = read(Order, ORDER, tmp_path)
    assert row.problem == ""
    assert row.calls == []
    assert row.value == Order(
        number="A-1733",
        ordered=dt.date(2026, 3, 5),
        status="shipped",
        express=True,
        pieces=12,
        total=Decimal("1204.90"),
        tags=["garden", "tools"],
    )


def test_the_same_request_has_the_same_bytes() -> None:
    schema = bounded(Order, output_tokens=4096).schema
    first = json.dumps(fill(schema, [ORDER]))
    assert all(json.dumps(fill(schema, [ORDER])) == first for _ in range(3))


def test_a_needed_field_that_is_not_found_leaves_no_record(tmp_path: Path) -> None:
    row = read(Order, "Total: 7.30\nThank you", tmp_path)
    assert row.value is None
    assert row.problem == "not in the passage: number."


def test_a_text_about_something_else_gives_nothing(tmp_path: Path) -> None:
    row = read(Order, "Rye bread keeps for a week. Wheat bread dries out.", tmp_path)
    assert row.value is None
    assert "gives nothing" in row.problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,204.90", 1204.9),
        ("1.204,90", 1204.9),
        ("1,204", 1204),
        ("1204", 1204),
        ("12,5", 12.5),
        ("1'204.5", 1204.5),
        ("-3.5", -3.5),
        ("1.204.000", 1204000),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert float(plain(text)) == value


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-03-05", dt.date(2026, 3, 5)),
        ("05/03/2026", dt.date(2026, 3, 5)),
        ("12/25/2026", dt.date(2026, 12, 25)),
        ("25-12-26", dt.date(2026, 12, 25)),
        ("3rd of March 2026", dt.date(2026, 3, 3)),
        ("Mar 5, 2026", dt.date(2026, 3, 5)),
        ("5. M\xe4rz 2026", dt.date(2026, 3, 5)),
        ("1er juillet 2026", dt.date(2026, 7, 1)),
        ("12 de octubre de 2026", dt.date(2026, 10, 12)),
        ("5 \u043c\u0430\u0440\u0442\u0430 2026", dt.date(2026, 3, 5)),
        ("2026\u5e743\u67085\u65e5", dt.date(2026, 3, 5)),
        ("5.3.2026", dt.date(2026, 3, 5)),
        ("99/99/2026", None),
        ("1.2.3.4.5", None),
    ],
)
def test_dates_are_read_in_many_forms(text: str, day: dt.date | None, tmp_path: Path) -> None:
    assert one(dt.date, f"On {text} it began.", tmp_path) == day


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Decimal, "Sum: 1\xa0204,90 EUR", Decimal("1204.90")),
        (Decimal, "Sum: Rs. 1,20,000.00", Decimal("120000.00")),
        (Decimal, "Sum: 1204.90USD", Decimal("1204.90")),
        (Decimal, "Sum: (45.00)", Decimal("-45.00")),
        (float, "Sum: 1,204.50-", -1204.5),
        (float, "Sum: 4.2 million", None),
        (float, "Sum: 12k", None),
        (int, "Sum: 3rd", 3),
        (int, "Sum: A12B7", None),
        (dt.datetime, "Sum: 2026-03-05T10:11Z", dt.datetime.fromisoformat("2026-03-05T10:11Z")),
        (dt.datetime, "Sum: 5 March 2026 at 9:30", dt.datetime.fromisoformat("2026-03-05T09:30")),
        (bool, "Sum: nein", False),
        (bool, "Sum: Y", True),
        (bool, "Sum: n/a", None),
        (bool, "Sum: [ ]", False),
        (bool, "( ) Express\n(x) Sum", True),
        (Literal["in stock", "sold"], "Sum: in-stock", "in stock"),
        (Literal["open", "closed"], "Sum: not open, it is closed", "closed"),
        (str, "Sum:\nEmail: a@b.example", None),
        (str, "Sum: n/a", None),
        (str, "Sum ____Liv____", "Liv"),
        (str, "Sum..... Liv", "Liv"),
        (str, "**Sum:** Liv", "Liv"),
        (str, "| Sum | Liv |", "Liv"),
        (str, 'Sum = "Liv"', "Liv"),
        (list[str], "Sum:\n- a\n- b, c", ["a", "b, c"]),
        (list[str], "Sum: red, blue and green", ["red", "blue", "green"]),
        (list[str], "Sum: salt and pepper", ["salt and pepper"]),
        (list[str], "Sum: [a | b]", ["a", "b"]),
        (list[int], "Sum: 3, 4, 7", [3, 4, 7]),
    ],
)  # fmt: skip
def test_a_value_is_read_in_the_ways_in_which_people_write_it(
    kind: Any, text: str, value: Any, tmp_path: Path
) -> None:
    assert one(kind, text, tmp_path, name="sum") == value


def test_a_value_may_stand_under_its_label(tmp_path: Path) -> None:
    text = "TOTAL\n:\nRM\n31.00\nCASH\n50.00"
    assert one(float, text, tmp_path, name="total") == 31.0


def test_a_total_is_at_least_its_parts(tmp_path: Path) -> None:
    text = "Total excl. tax 15.00\nTotal incl. tax 15.90\nTotal items 3\nCash 50.00"
    assert one(float, text, tmp_path, name="total", said="Total amount to pay") == 15.9


def test_a_number_without_its_label_is_no_answer(tmp_path: Path) -> None:
    assert one(int, "There were 12 of them.", tmp_path, name="age") is None


def test_bounds_tell_numbers_apart(tmp_path: Path) -> None:
    class Person(BaseModel):
        age: int = Field(ge=0, le=120)

    row = read(Person, "Age group 2024, age 33", tmp_path)
    assert row.value == Person(age=33)


def test_addresses_ids_and_links_are_known_by_their_looks(tmp_path: Path) -> None:
    uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    assert one(UUID, f"See {uuid}.", tmp_path) == UUID(uuid)
    assert one(dt.time, "at 17:45 sharp", tmp_path) == dt.time(17, 45)


def test_the_best_sentence_answers_where_no_label_does(tmp_path: Path) -> None:
    class Bread(BaseModel):
        keeps: str = Field(description="How long rye bread keeps")

    row = read(Bread, "Flour is dear. Rye bread keeps for a week. Eat it.", tmp_path)
    assert row.value == Bread(keeps="Rye bread keeps for a week.")


def test_lists_of_records_stay_empty(tmp_path: Path) -> None:
    class Line(BaseModel):
        item: str

    class Bill(BaseModel):
        total: float
        lines: list[Line]

    row = read(Bill, "Rye bread 4.20\nTotal: 4.20", tmp_path)
    assert row.value == Bill(total=4.2, lines=[])


def test_a_value_longer_than_its_room_is_cut_and_its_quote_stays_verbatim(tmp_path: Path) -> None:
    class Note(BaseModel):
        note: str = Field(max_length=10)

    row = read(Note, f"Note: {'long ' * 300}", tmp_path)
    assert row.value == Note(note="long long")


KINDS = [
    str, int, float, bool, Decimal, dt.date, dt.time, dt.datetime, UUID, Literal["a", "b"],
    list[str], list[int], int | str,
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    text=st.lists(
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(["Total: 12", "x =", "= 4", "2026-02-30", "9" * 400, "x: 1,2;3", "\t"]),
        ),
        max_size=6,
    ).map("\n".join),
    name=st.sampled_from(["x", "total", "address", "company", "date_of_birth"]),
)
def test_any_text_gives_a_reply_that_fits_the_schema(kind: Any, text: str, name: str) -> None:
    model: type[BaseModel] = type("Any_", (BaseModel,), {"__annotations__": {name: kind}})
    schema = bounded(model, output_tokens=1024).schema
    filled = fill(schema, [text])
    jsonschema.validate({"record": filled}, schema)
    leaf = filled[name]
    for each in leaf if isinstance(leaf, list) else [leaf]:
        assert each["quote"] in text


def test_every_hint_that_is_searched_for_is_one_that_schemas_give() -> None:
    class Forms(BaseModel):
        day: dt.date
        price: Decimal

    schema = bounded(Forms, output_tokens=1024).schema
    parts = schema["properties"]["record"]["properties"]
    assert parts["day"]["properties"]["value"]["description"] == HINTS["date"]
    assert parts["price"]["properties"]["value"]["description"] == HINTS["decimal"]
