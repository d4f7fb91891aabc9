"""One value of a user's model: its type, the bounds it was given, and how it is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LARGEST = 10**15 - 1
"""Default bound of a number's size.

Source: below 2**53, so that JSON, doubles and msgpack carry every whole number exactly.
"""

FORMATS: dict[str, tuple[int, str]] = {
    "date": (10, "YYYY-MM-DD"),
    "date-time": (35, "YYYY-MM-DDTHH:MM:SS"),
    "time": (21, "HH:MM:SS"),
    "duration": (32, "ISO 8601 duration such as P1DT2H30M"),
    "decimal": (32, "decimal number such as 1234.50, without currency"),
    "uuid": (36, "UUID"),
    "email": (254, "e-mail address"),
}
"""Format to its longest text in characters, and how it is asked for in words.

Formats are checked by the user's model and not by the API: for `date-time` strict schemas demand
a time zone, which documents seldom give.

Source: RFC 3339 with microseconds and offset; a decimal of 28 digits, Python's own precision; RFC
4122; RFC 5321 section 4.5.3.1.3 for addresses.
"""
HINTS: dict[str, str] = {name: hint for name, (_, hint) in FORMATS.items()}

Kind = Literal["string", "integer", "number", "boolean", "choice"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One type that a value may have, with the bounds the user gave it."""

    kind: Kind
    choices: tuple[str | int | float | bool, ...] = ()
    least: float = -LARGEST
    most: float = LARGEST
    at_least: int = 0
    """Characters that the user's model wants at least."""
    at_most: int | None = None
    """Characters; None where only the budget bounds them."""
    hint: str = ""


def text(schema: Mapping[str, Any]) -> Scalar:
    """Return a string with the bounds of its format and the user's own."""
    form = schema.get("format", "")
    longest, hint = FORMATS.get(form, (None, form))
    given = [n for n in (longest, schema.get("maxLength")) if n is not None]
    hints = filter(None, (hint, _more(schema, "pattern"), _more(schema, "minLength")))
    return Scalar(
        "string",
        at_least=schema.get("minLength", 0),
        at_most=min(given, default=None),
        hint=", ".join(hints),
    )


def number(schema: Mapping[str, Any], kind: Literal["integer", "number"]) -> Scalar:
    """Return a number with the user's bounds, or our own."""
    least, most = _range(schema, whole=kind == "integer")
    return Scalar(kind, least=least, most=most, hint=_more(schema, "multipleOf"))


def _range(schema: Mapping[str, Any], *, whole: bool) -> tuple[float, float]:
    """Return the user's bounds where there are any, else our own; whole ones inclusive."""
    step = 1 if whole else 0
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    least = max(n for n in (schema.get("minimum"), _step(over, step), -math.inf) if n is not None)
    most = min(n for n in (schema.get("maximum"), _step(under, -step), math.inf) if n is not None)
    least = least if least > -math.inf else min(-LARGEST, most)
    most = most if most < math.inf else max(LARGEST, least)
    return (math.ceil(least), math.floor(most)) if whole else (least, most)


def _step(bound: float | None, step: int) -> float | None:
    return None if bound is None else bound + step


_MORE = {"multipleOf": "a multiple of {}", "pattern": "matching {}", "minLength": "{}+ characters"}


def _more(schema: Mapping[str, Any], keyword: str) -> str:
    """Return a bound that is said in words, as APIs refuse or ignore its keyword."""
    given = schema.get(keyword)
    return _MORE[keyword].format(json.dumps(given)) if given else ""
