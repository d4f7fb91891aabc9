"""What values look like: numbers, dates, addresses, choices, each found in a line and parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NamedTuple

from nemoflows.schemas import HINTS, LARGEST


class Match(NamedTuple):
    """A value and where it stands in its line."""

    start: int
    end: int
    value: Any


_NUMBER = re.compile(
    r"(?<![\w.,/-])[-+]?(?:\d{1,3}(?:[,.' ]\d{3})+|\d+)(?:[.,]\d+)?(?![\w/-]|[.,]\d)"
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = [
    re.compile(rf"(?<!\d){pattern}(?!\d)", re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
        r"(?P<day>\d{1,2})[-/.](?P<month>\d{1,2})[-/.](?P<year>\d{4}|\d{2})",
        rf"{_DAY}[-/ ]?(?:of )?{_MONTH}[-/, ]*(?P<year>\d{{4}}|\d{{2}})",
        rf"{_MONTH} {_DAY},? (?P<year>\d{{4}})",
    )
]
_PLAIN = {
    HINTS["email"]: re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    HINTS["uuid"]: re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
    HINTS["time"]: re.compile(r"\b(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?\b"),
    "uri": re.compile(r"\bhttps?://[^\s<>\"']+"),
}
_YES = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_FLAG = re.compile(rf"\b(?:{'|'.join(_YES)})\b", re.IGNORECASE)

Finder = Callable[[str], Iterator[Match]]


def finder(schema: dict[str, Any]) -> Finder | None:
    """Return how to find values of a schema in a line; None where any text may be one."""
    if "enum" in schema:
        return lambda line: _choices(schema["enum"], line)
    if schema.get("type") in {"integer", "number"}:
        return lambda line: _numbers(line, schema)
    if schema.get("type") == "boolean":
        return _flags
    return _FORMS.get(_hint(schema))


def looks_tell(schema: dict[str, Any]) -> bool:
    """Return whether a value needs no label: a date looks like one, a number like any number."""
    return "enum" in schema or _hint(schema) in _FORMS.keys() - {HINTS["decimal"]}


def is_number(schema: dict[str, Any]) -> bool:
    """Return whether the values are numbers, decimals as strings included."""
    return schema.get("type") in {"integer", "number"} or _hint(schema) == HINTS["decimal"]


def _hint(schema: dict[str, Any]) -> str:
    """Return the format that a schema asks for in words."""
    said = schema.get("description", "")
    return next((hint for hint in _FORMS if said == hint or said.startswith(f"{hint}, ")), "")


def _flags(line: str) -> Iterator[Match]:
    for found in _FLAG.finditer(line):
        yield Match(*found.span(), _YES[found[0].lower()])


def _choices(choices: list[Any], line: str) -> Iterator[Match]:
    for choice in choices:
        for found in re.finditer(rf"(?<!\w){re.escape(str(choice))}(?!\w)", line, re.IGNORECASE):
            yield Match(*found.span(), choice)


def _numbers(line: str, schema: dict[str, Any]) -> Iterator[Match]:
    """Give numbers within the schema's bounds, dates left out."""
    dates = [(match.start, match.end) for match in _dates(line)]
    low, high = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
    whole = schema.get("type") == "integer"
    for found in _NUMBER.finditer(line):
        value = float(plain(found[0]))
        inside = any(start <= found.start() < end for start, end in dates)
        if low <= value <= high and not inside and (value.is_integer() or not whole):
            yield Match(*found.span(), int(value) if whole else value)


def plain(text: str) -> str:
    """Return a number as Python spells it; of `,` and `.` the last one parts the decimals.

    A single mark followed by three digits parts thousands where it is a comma, as in English.
    """
    digits = re.sub(r"[' +]", "", text)
    comma, dot = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and dot >= 0:
        digits = digits.replace("," if dot > comma else ".", "").replace(",", ".")
    elif digits.count(",") > 1 or re.search(r",\d{3}$", digits):
        digits = digits.replace(",", "")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    return digits.replace(",", ".")


def _dates(line: str) -> Iterator[Match]:
    """Give dates as ISO 8601; where day and month could be either, the day comes first."""
    taken: set[int] = set()
    for pattern in _DATES:
        for found in pattern.finditer(line):
            value = _iso(found["year"], found["month"].lower(), found["day"])
            if value and taken.isdisjoint(range(*found.span())):
                taken.update(range(*found.span()))
                yield Match(*found.span(), value)


def _iso(year: str, month: str, day: str) -> str:
    months = _MONTHS.index(month[:3]) + 1 if month[:3] in _MONTHS else int(month)
    days = int(day)
    if months > 12:
        months, days = days, months
    try:
        return date(int(year) + 2000 * (len(year) == 2), months, days).isoformat()
    except ValueError:
        return ""


def _decimals(line: str) -> Iterator[Match]:
    for match in _numbers(line, {}):
        yield match._replace(value=plain(line[match.start : match.end]))


def _plain(pattern: re.Pattern[str]) -> Finder:
    def find(line: str) -> Iterator[Match]:
        return (Match(*found.span(), found[0]) for found in pattern.finditer(line))

    return find


_FORMS: dict[str, Finder] = {
    HINTS["date"]: _dates,
    HINTS["date-time"]: _dates,
    HINTS["decimal"]: _decimals,
    **{hint: _plain(pattern) for hint, pattern in _PLAIN.items()},
}
