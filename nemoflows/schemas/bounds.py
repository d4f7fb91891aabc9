"""Rooms for texts and lists, chosen so that the longest reply fits the output budget.

Every value comes as `{"quote": …, "value": …}`: the quote first, because a model that has just
copied the words writes the value from them, and inside the record, because a decoder can then
enforce what a list of paths beside the record leaves to the model: one quote per value, at its
place. Absence is an empty quote and not a null: Anthropic refuses schemas with more than 16
parameters of union type, and every field can be absent.

Source: Anthropic's documentation of structured outputs, "JSON schema limitations"; its error text
is quoted in vercel/ai pull request 17268.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from nemoflows.errors import BadInput
from nemoflows.schemas.scalars import Scalar
from nemoflows.schemas.tree import (
    Choices,
    Field,
    Fixed,
    Leaf,
    Many,
    Node,
    Record,
    record_of,
)

M = TypeVar("M", bound=BaseModel)

CHARACTERS_PER_TOKEN = 2
"""What a token of output is counted as.

Half of the 4 that tokenisers give English prose: names, digits and punctuation take more tokens.
Text at one character per token (some scripts) that runs into the limit is covered too, for the
client asks a truncated reply again with twice the tokens.

Source: OpenAI's rule of thumb of 4 characters per token, halved.
"""
NUMBER_CHARACTERS = 24
"""Longest shortest decimal form of a double: -2.2250738585072014e-308. No keyword bounds digits."""


class SizeLimits(NamedTuple):
    """What the budget allows where the user's model allows more."""

    items: int
    """Entries of a list."""
    text: int
    """Characters of a string value."""
    quote: int
    """Characters of a quote; 0 where values come without."""


_SIZES = (
    SizeLimits(3, 40, 40),
    SizeLimits(8, 60, 60),
    SizeLimits(16, 100, 80),
    SizeLimits(30, 200, 100),
    SizeLimits(60, 400, 160),
    SizeLimits(100, 800, 240),
    SizeLimits(200, 2000, 300),
)
"""From the least worth asking for to more than any model should write."""
_STEPS = 8


def _sizes() -> list[SizeLimits]:
    """Return rooms from small to large, so that the largest that fits can be searched for."""
    rooms = [_SIZES[0]]
    for low, high in pairwise(_SIZES):
        rooms += [
            SizeLimits(*(a + (b - a) * step // _STEPS for a, b in zip(low, high, strict=True)))
            for step in range(1, _STEPS + 1)
        ]
    return rooms


@dataclass(frozen=True, slots=True)
class Shape(Generic[M]):
    """What is asked for: the model, its fields, their room, the schema and the words."""

    model: type[M]
    record: Record
    room: SizeLimits
    schema: dict[str, Any]
    outline: str
    """The fields in words: in-process engines do not show a schema to the model."""
    output_tokens: int


def bounded(model: type[M], *, output_tokens: int, quoted: bool = True) -> Shape[M]:
    """Return the shape of a model whose longest reply fits `output_tokens`.

    Strings are counted at one character each: texts copied from documents hold few characters
    that JSON escapes.

    Args:
        quoted: Whether each value comes with the words it was read from.

    Raises:
        BadInput: A field cannot be bounded, or not even the smallest room fits.
    """
    record = record_of(model)
    rooms = _sizes() if quoted else [room._replace(quote=0) for room in _sizes()]
    budget = output_tokens * CHARACTERS_PER_TOKEN
    fitting = bisect_right(rooms, budget, key=lambda room: longest(reply_schema(record, room)))
    if not fitting:
        least = -(-longest(reply_schema(record, rooms[0])) // CHARACTERS_PER_TOKEN)
        raise BadInput(
            f"{model.__name__} needs at least {least} output tokens for its longest reply, and "
            f"output_tokens is {output_tokens}. Raise it, set max_length on lists and strings, or "
            "split the model."
        )
    room = rooms[fitting - 1]
    outline = "\n".join(_lines(record, ""))
    return Shape(model, record, room, reply_schema(record, room), outline, output_tokens)


def reply_schema(record: Record, room: SizeLimits) -> dict[str, Any]:
    """Return the reply's JSON schema: strict, inlined, bounded throughout."""
    return _object({"record": _schema(record, room)}) if room.quote else _schema(record, room)


def longest(schema: dict[str, Any]) -> int:
    """Return the length of the longest JSON text that a bounded schema lets through."""
    if "anyOf" in schema:
        return max(longest(option) for option in schema["anyOf"])
    if schema.get("type") == "object":
        named = schema["properties"].items()
        return 2 + sum(len(json.dumps(name)) + 4 + longest(part) for name, part in named)
    if schema.get("type") == "null":
        return len("null")
    if schema.get("type") == "array":
        return 2 + int(schema["maxItems"]) * (2 + longest(schema["items"]))
    return _longest_scalar(schema)


def _longest_scalar(schema: dict[str, Any]) -> int:
    if "maxLength" in schema:
        return 2 + int(schema["maxLength"])
    if schema.get("type") == "number" and "minimum" in schema:
        return NUMBER_CHARACTERS
    allowed = schema.get("enum") or [
        schema.get(key, False) for key in ("const", "minimum", "maximum")
    ]
    return max(len(json.dumps(each, ensure_ascii=False)) for each in allowed)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(node: Node, room: SizeLimits) -> dict[str, Any]:
    match node:
        case Leaf() if not room.quote:
            return _value(node, room)
        case Leaf():
            quote = {"type": "string", "maxLength": room.quote}
            return _object({"quote": quote, "value": _value(node, room)})
        case Fixed():
            return {"const": node.value, "type": _type(node.value)}
        case Many():
            items = within(node.at_most, node.at_least, room.items)
            return {"type": "array", "items": _schema(node.item, room), "maxItems": items}
        case Choices():
            return {"anyOf": [_schema(each, room) for each in node.records]}
        case Record():
            return _object({field.name: _field(field, room) for field in node.fields})


def _field(field: Field, room: SizeLimits) -> dict[str, Any]:
    said = {"description": field.description} if field.description else {}
    schema = _schema(field.node, room)
    if field.nullable and not room.quote:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return said | schema


def _value(leaf: Leaf, room: SizeLimits) -> dict[str, Any]:
    options = [_scalar(each, room) for each in leaf.scalars]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _scalar(scalar: Scalar, room: SizeLimits) -> dict[str, Any]:
    said = {"description": scalar.hint} if scalar.hint else {}
    match scalar.kind:
        case "choice":
            kinds = {_type(each) for each in scalar.choices}
            kind = {"type": kinds.pop()} if len(kinds) == 1 else {}
            return {**kind, "enum": list(scalar.choices), **said}
        case "string":
            most = within(scalar.at_most, scalar.at_least, room.text)
            return {"type": "string", "maxLength": most, **said}
        case "boolean":
            return {"type": "boolean", **said}
        case _:
            return {"type": scalar.kind, "minimum": scalar.least, "maximum": scalar.most, **said}


def within(at_most: int | None, at_least: int, room: int) -> int:
    """Return the user's own bound where it is tighter than the room, and never less than asked."""
    return max(at_least, room if at_most is None else min(at_most, room))


def _type(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return kinds.get(type(value), "string")


def _lines(record: Record, indent: str) -> list[str]:
    """Return the fields as an indented list, each with its type, bounds and description."""
    lines = []
    for field in record.fields:
        inner = field.node.item if isinstance(field.node, Many) else field.node
        of = "list of " if isinstance(field.node, Many) else ""
        said = f": {' '.join(field.description.split())}" if field.description else ""
        lines.append(f"{indent}- {field.name} ({of}{_words(inner)}){said}")
        lines += _inner_lines(inner, f"{indent}  ")
    return lines


def _inner_lines(node: Node, indent: str) -> list[str]:
    match node:
        case Record():
            return _lines(node, indent)
        case Choices():
            return [line for each in node.records for line in _lines(each, indent)]
        case Many():
            return _inner_lines(node.item, indent)
        case _:
            return []


def _words(node: Node) -> str:
    match node:
        case Leaf():
            return " or ".join(map(_scalar_words, node.scalars))
        case Fixed():
            return f"always {json.dumps(node.value, ensure_ascii=False)}"
        case Many():
            return f"list of {_words(node.item)}"
        case Choices():
            return f"one of several, told apart by {node.tag}"
        case Record():
            return "an object of"


def _scalar_words(scalar: Scalar) -> str:
    if scalar.kind == "choice":
        said = ", ".join(json.dumps(each, ensure_ascii=False) for each in scalar.choices)
        return f"one of {said}"
    return f"{scalar.kind}, {scalar.hint}" if scalar.hint else scalar.kind
