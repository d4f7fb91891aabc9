"""What values look like: numbers, dates, addresses, choices, each found in a line and parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import Any, NamedTuple

from nemoflows.schemas import HINTS, LARGEST


class Match(NamedTuple):
    """A value and where it stands in its line."""

    start: int
    end: int
    value: Any


class Looks(NamedTuple):
    """What the values of a field look like."""

    find: Callable[[str], Iterator[Match]]
    """All of them in a line."""
    tell: bool = False
    """Whether they need no label: a date looks like one, a number like any number."""
    number: bool = False
    """Whether they are numbers, decimals as strings included."""


_UNIT = r"(?:[a-z]{2,5}|[A-Z]{3})(?![\w/-])"
_SCALED = r"[ \u00a0]?(?:k|[mb]n|[mb]illions?|mio|mrd|thousand|lakh|crore)\b"
_NUMBER = re.compile(
    r"(?<![\w.,/-])[-+]?(?:\d{1,3}(?:[,.'\u2019\u00a0\u202f ]\d{3})+|\d{1,2}(?:,\d\d)+,\d{3}|\d+|"
    rf"(?=\.\d))(?:[.,]\d+)?(?!{_SCALED})(?={_UNIT}|(?![\w/]|-(?!\W*(?:[A-Z]{{3}})?$)|[.,]\d))"
)
"""A number, its unit perhaps glued to it; one in thousands or millions is not the number itself."""
_MONTHS = [
    "jan|ene|gen|янв", "feb|fév|fev|фев", "mar|mär|mrt|maa|мар", "apr|avr|abr|апр",
    "may|mai|mag|mei|maj|мая|май", "jun|juin|giu|июн", "jul|juil|lug|июл", "aug|aoû|aou|ago|авг",
    "sep|set|сен", "oct|okt|ott|out|окт", "nov|ноя", "dec|dez|déc|dic|дек",
]  # fmt: skip
"""How their names begin in English and some of its neighbours' languages."""
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[^\W\d_]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|[.\u00ba])?"
_OF = r"(?:of |de |del |di )?"
_DATES = [
    re.compile(rf"(?<!\d){pattern}(?!\d)", re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
        r"(?P<day>\d{1,2})[-/.](?P<month>\d{1,2})[-/.](?P<year>\d{4}|\d{2})",
        rf"{_DAY}[-/ ]?{_OF}{_MONTH}[-/, ]*{_OF}(?P<year>\d{{4}}|\d{{2}})",
        r"(?P<year>\d{4}) ?[年년] ?(?P<month>\d{1,2}) ?[月월] ?(?P<day>\d{1,2}) ?[日일]",
        rf"{_MONTH} {_DAY},? (?P<year>\d{{4}})",
    )
]
_SAID = {
    True: [
        "yes",
        "true",
        "on",
        "ja",
        "oui",
        "si",
        "sí",
        "sim",
        "да",
        "y",
        "[x]",
        "✓",
        "✔",
        "☑",
        "☒",
    ],
    False: ["no", "false", "off", "nein", "non", "não", "nee", "нет", "n", "[ ]", "☐"],
}
_YES = {each: truth for truth, every in _SAID.items() for each in every}
_FLAG = re.compile(
    rf"\b(?:{'|'.join(each for each in _YES if each[1:].isalpha())}|[yn](?=\W*$))\b(?!/)|"
    r"\[[x ]\](?!\S)|[✓✔☑☒☐]",
    re.IGNORECASE,
)
_TIME = re.compile(r",?(?:T| at | um |[ T])(\d\d?:\d\d(?::\d\d(?:\.\d+)?)?) ?(Z|[+-]\d\d:?\d\d)?\b")


def looks(schema: dict[str, Any]) -> Looks | None:
    """Return how values of a schema look in a line; None where any text may be one."""
    if "enum" in schema:
        return Looks(partial(_choices, schema["enum"]), tell=True)
    if schema.get("type") in {"integer", "number"}:
        return Looks(partial(_numbers, schema), number=True)
    if schema.get("type") == "boolean":
        return Looks(_flags)
    said = schema.get("description", "")
    return next((_FORMS[h] for h in _FORMS if said == h or said.startswith(f"{h}, ")), None)


def _flags(line: str) -> Iterator[Match]:
    return (Match(*found.span(), _YES[found[0].lower()]) for found in _FLAG.finditer(line))


def _choices(choices: list[Any], line: str) -> Iterator[Match]:
    for choice in choices:
        spelled = r"[\s_-]+".join(map(re.escape, re.split(r"[\s_-]+", str(choice))))
        for found in re.finditer(rf"(?<!\bnot )(?<!\w){spelled}(?!\w)", line, re.IGNORECASE):
            yield Match(*found.span(), choice)


def _numbers(schema: dict[str, Any], line: str) -> Iterator[Match]:
    """Give numbers within the schema's bounds, dates left out; without a type as text."""
    dates = [(match.start, match.end) for match in _dates(line)]
    low, high = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
    whole = schema.get("type") == "integer"
    for found in _NUMBER.finditer(line):
        text = plain(found[0])
        value = float(text)
        inside = any(start <= found.start() < end for start, end in dates)
        if low <= value <= high and not inside and (value.is_integer() or not whole):
            typed = int(value) if whole else value
            yield Match(*found.span(), typed if schema else text)


def plain(text: str) -> str:
    """Return a number as Python spells it; of `,` and `.` the last one parts the decimals.

    A single mark followed by three digits parts thousands where it is a comma, as in English.
    """
    digits = re.sub(r"[' +\u2019\u00a0\u202f]", "", text)
    last, first = (",", ".") if digits.rfind(",") > digits.rfind(".") else (".", ",")
    thousands = digits.count(last) > 1 or (last == "," and re.search(r"^[^.]*,\d{3}$", digits))
    return digits.replace(first, "").replace(last, "" if thousands else ".")


def _dates(line: str) -> Iterator[Match]:
    """Give dates as ISO 8601; where day and month could be either, the day comes first."""
    taken: set[int] = set()
    for pattern in _DATES:
        for found in pattern.finditer(line):
            value = _iso(found["year"], found["month"].lower(), found["day"])
            if value and taken.isdisjoint(range(*found.span())):
                taken.update(range(*found.span()))
                yield Match(*found.span(), value)


def _moments(line: str) -> Iterator[Match]:
    """Give dates with the time of day that follows them."""
    for start, end, day in _dates(line):
        time = _TIME.match(line, end)
        at = f"T{time[1].zfill(5)}{time[2] or ''}" if time else ""
        yield Match(start, time.end() if time else end, day + at)


def _iso(year: str, month: str, day: str) -> str:
    """Return a date as ISO 8601; "" where the calendar has none such."""
    named = (n for n, names in enumerate(_MONTHS, 1) if month in names.split("|"))
    months = int(month) if month.isdigit() else next(named)
    months, days = (int(day), months) if months > 12 else (months, int(day))
    try:
        return date(int(year) + 2000 * (len(year) == 2), months, days).isoformat()
    except ValueError:
        return ""


def _plain(pattern: str) -> Looks:
    compiled = re.compile(pattern)
    return Looks(lambda line: (Match(*m.span(), m[0]) for m in compiled.finditer(line)), tell=True)


_FORMS: dict[str, Looks] = {
    HINTS["date"]: Looks(_dates, tell=True),
    HINTS["date-time"]: Looks(_moments, tell=True),
    HINTS["decimal"]: Looks(partial(_numbers, {}), number=True),
    HINTS["email"]: _plain(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    HINTS["uuid"]: _plain(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
    HINTS["time"]: _plain(r"\b(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?\b"),
    "uri": _plain(r"\bhttps?://[^\s<>\"']+"),
}
