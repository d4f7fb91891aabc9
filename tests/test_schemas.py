"""A user's model as a bounded schema: bounds hold, the longest reply fits, the rest refuses."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from nemoflows.errors import BadInput
from nemoflows.schemas import CHARACTERS_PER_TOKEN, LARGEST, bounded, longest
from nemoflows.schemas.tree import Leaf, Record, record_of


class Unit(enum.Enum):
    PIECE = "piece"
    KILO = "kg"


class Line(BaseModel):
    """A line of the bill."""

    item: str = Field(description="What was bought")
    amount: Decimal = Field(ge=0)
    unit: Unit | None = None


class Card(BaseModel):
    kind: Literal["card"] = "card"
    digits: int = Field(ge=0, le=9999)


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    given: float = Field(gt=0, lt=1000)


class Bill(BaseModel):
    number: str = Field(max_length=12, pattern=r"^\d+$", description="Number of the bill")
    on: date
    at: datetime | None = None
    lasted: timedelta | None = None
    status: Literal["open", "paid"] = "open"
    lines: list[Line] = Field(max_length=5)
    tags: set[str] = Field(default_factory=set)
    code: int | str | None = None
    paid: Annotated[Card | Cash, Field(discriminator="kind")] | None = None
    few: int = Field(gt=0, lt=10)
    ok: bool = False


def leaves(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return every part of a schema that holds no other."""
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    inner += [schema["items"]] if "items" in schema else []
    for part in inner:
        yield from leaves(part)
    if not inner:
        yield schema


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    inner += [schema["items"]] if "items" in schema else []
    yield schema
    for part in inner:
        yield from objects(part)


def fullest(schema: dict[str, Any]) -> Any:  # noqa: PLR0911
    """Return the longest instance of a schema, written independently of `longest`."""
    if "anyOf" in schema:
        return max(map(fullest, schema["anyOf"]), key=lambda value: len(json.dumps(value)))
    if "enum" in schema:
        return max(schema["enum"], key=lambda value: len(json.dumps(value)))
    match schema:
        case {"const": value}:
            return value
        case {"type": "object", "properties": properties}:
            return {name: fullest(part) for name, part in properties.items()}
        case {"type": "array", "items": items, "maxItems": n}:
            return [fullest(items)] * n
        case {"type": "string", "maxLength": n}:
            return "x" * n
        case {"type": "integer", "minimum": low, "maximum": high}:
            return max(low, high, key=lambda value: len(str(value)))
        case {"type": "number"}:
            return -1.234567890123456e-100
        case {"type": "boolean"}:
            return False
    raise AssertionError(schema)


def test_a_rich_model_is_bounded_strict_and_inlined() -> None:
    schema = bounded(Bill, output_tokens=4096).schema
    text = json.dumps(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" not in text
    assert "pattern" not in schema
    for part in objects(schema):
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])
        if part.get("type") == "array":
            assert part["maxItems"] <= 200
    for leaf in leaves(schema):
        if leaf.get("type") == "string":
            assert "maxLength" in leaf or "enum" in leaf or "const" in leaf
        if leaf.get("type") in {"integer", "number"}:
            assert leaf["minimum"] <= leaf["maximum"]


def test_the_schema_stays_clear_of_the_limit_on_unions() -> None:
    fields: dict[str, Any] = {f"f{n}": (str | None, None) for n in range(30)}
    schema = bounded(create_model("Wide", **fields), output_tokens=8192).schema
    assert "anyOf" not in json.dumps(schema)
    assert '"null"' not in json.dumps(schema)


def test_the_users_tighter_bounds_are_kept_and_looser_ones_cut() -> None:
    class Text(BaseModel):
        short: str = Field(max_length=7)
        endless: str = Field(max_length=10**9)
        few: list[int] = Field(max_length=2)
        age: int = Field(ge=0, le=120)
        over: int = Field(gt=0)
        share: float = Field(gt=0, lt=1)

    shape = bounded(Text, output_tokens=4096)
    record = shape.schema["properties"]["record"]["properties"]
    value = {n: part["properties"]["value"] for n, part in record.items() if "properties" in part}
    assert value["short"]["maxLength"] == 7
    assert value["endless"]["maxLength"] == shape.room.text
    assert record["few"]["maxItems"] == 2
    assert (value["age"]["minimum"], value["age"]["maximum"]) == (0, 120)
    assert (value["over"]["minimum"], value["over"]["maximum"]) == (1, LARGEST)
    assert (value["share"]["minimum"], value["share"]["maximum"]) == (0, 1)


def test_more_budget_is_more_room() -> None:
    rooms = [bounded(Bill, output_tokens=n).room for n in (1500, 2048, 8192)]
    assert rooms == sorted(rooms)
    assert rooms[0] < rooms[-1]


def test_too_small_a_budget_is_refused_with_the_number_that_does() -> None:
    with pytest.raises(BadInput, match=r"at least \d+ output tokens.* is 16") as refused:
        bounded(Bill, output_tokens=16)
    least = int(refused.value.message.split("at least ")[1].split()[0])
    assert bounded(Bill, output_tokens=least).room.items == 3


def test_the_outline_names_every_field_with_type_and_description() -> None:
    outline = bounded(Bill, output_tokens=4096).outline
    for words in (
        "- number (string, matching",
        "Number of the bill",
        "- on (string, YYYY-MM-DD)",
        '- status (one of "open", "paid")',
        "- lines (list of an object of)",
        "  - item (string): What was bought",
        '  - kind (always "cash")',
        "- code (integer or string)",
    ):
        assert words in outline


def test_typed_dictionaries_and_dataclasses_are_records_too() -> None:
    class Place(TypedDict):
        city: str

    @dataclasses.dataclass
    class Who:
        name: str

    class Visit(BaseModel):
        place: Place
        who: Who

    kinds = [type(field.node) for field in record_of(Visit).fields]
    assert kinds == [Record, Record]


def test_an_enum_may_hold_none_and_is_then_optional() -> None:
    class Mood(BaseModel):
        mood: Literal["good", None]  # noqa: PYI061
        only: Literal["good"] | None

    for field in record_of(Mood).fields:
        assert isinstance(field.node, Leaf)
        assert field.node.scalars[0].choices == ("good",)
        assert not field.needed


class Tree(BaseModel):
    kids: list[Tree] = Field(default_factory=list)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Empty(BaseModel):
    pass


REFUSED: list[tuple[Any, str]] = [
    (dict[str, int], "Probe.x cannot be extracted: Any, dict"),
    (dict[str, Any], "Probe.x cannot be extracted: Any, dict"),
    (dict, "Probe.x cannot be extracted"),
    (list[dict[str, str]], r"Probe.x\[\] cannot be extracted"),
    (Any, "Probe.x cannot be extracted"),
    (list, r"Probe.x\[\] cannot be extracted"),
    (object, "Probe"),
    (tuple[int, str], "places have no names"),
    (Tree, "Tree contains itself"),
    (list[Tree], "Tree contains itself"),
    (Open, "extra fields"),
    (Empty, "Probe.x cannot be extracted"),
    (bytes, "bytes do not stand in a text"),
    (Line | Card, "union of models"),
    (list[int] | int, "union of models or lists"),
    (None, "Probe.x cannot be extracted"),
]


@pytest.mark.parametrize(("kind", "words"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_cannot_be_bounded_is_refused_at_definition(kind: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        bounded(create_model("Probe", x=(kind, ...)), output_tokens=4096)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(BadInput, match="no pydantic model"):
        bounded(int, output_tokens=4096)  # type: ignore[type-var]
    with pytest.raises(BadInput, match="Tree contains itself"):
        bounded(Tree, output_tokens=4096)
    with pytest.raises(BadInput, match="leave the reply's shape open"):
        bounded(Empty, output_tokens=4096)


def test_aliases_that_flyte_could_not_read_back_are_refused() -> None:
    class Camel(BaseModel):
        invoice_no: str = Field(alias="invoiceNo")

    with pytest.raises(BadInput, match="validate_by_name"):
        bounded(Camel, output_tokens=4096)

    class Both(Camel):
        model_config = ConfigDict(populate_by_name=True)

    assert record_of(Both).fields[0].name == "invoice_no"


SIMPLE = st.one_of(
    st.sampled_from([str, int, float, bool, date, datetime, Decimal, Unit, Literal["a", "b"]]),
    st.builds(
        lambda low, span: Annotated[int, Field(ge=low, le=low + span)],
        st.integers(-(10**6), 10**6),
        st.integers(0, 10**6),
    ),
    st.builds(
        lambda low, span: Annotated[str, Field(min_length=low, max_length=low + span)],
        st.integers(0, 50),
        st.integers(0, 5000),
    ),
)


def named(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[type[BaseModel]]:
    fields = st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,12}", fullmatch=True).filter(lambda n: n != "copy"),
        kinds,
        min_size=1,
        max_size=4,
    )

    def made(found: dict[str, Any]) -> type[BaseModel]:
        named: dict[str, Any] = {f"f_{name}": (kind, ...) for name, kind in found.items()}
        return create_model("Made", **named)

    return fields.map(made)


MODELS = named(
    st.recursive(
        SIMPLE,
        lambda inner: st.one_of(
            inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
            inner.map(lambda kind: kind | None),
            named(inner),
        ),
        max_leaves=6,
    )
)


@settings(max_examples=80, deadline=None)
@given(model=MODELS, output_tokens=st.integers(256, 16_384))
def test_the_longest_reply_fits_the_budget(model: type[BaseModel], output_tokens: int) -> None:
    try:
        shape = bounded(model, output_tokens=output_tokens)
    except BadInput as error:
        assert "output tokens" in error.message  # noqa: PT017  (others would be wrong)
        return
    full = fullest(shape.schema)
    jsonschema.validate(full, shape.schema)
    written = len(json.dumps(full))
    assert written <= longest(shape.schema) <= output_tokens * CHARACTERS_PER_TOKEN
