"""A value beside the words it was read from: its own letters, its sign, what it leaves open."""

from __future__ import annotations

import re
from typing import Any

from nemoflows.calls.contract import locate
from nemoflows.language.terms import words
from nemoflows.schemas import HINTS, Leaf
from nemoflows.types import Evidence, Passage

NUMBER = re.compile(r"\d[\d.,'\u2019\u00a0 ]*")

_DAYS_OR_MONTHS = re.compile(r"(?<![\d/-])(\d{1,2})([/-])(\d{1,2})\2(?:\d{4}|\d{2})(?![\d/-])")
_MONTHS = 12
_ORDER = re.compile(
    r"(?:day|month)s?[ -](?:comes |is )?first|\b(?:d{1,2}|m{1,2})[ /.-](?:d{1,2}|m{1,2})\b|"
    r"\b(?:European|British|American|US)\b",
    re.IGNORECASE,
)
"""What a field's description says of which comes first."""
_MINUS = r"[-\u2010-\u2015\u2212]"
_MINUS_BEFORE = re.compile(rf"(?<![\w.,)]){_MINUS}[^\s\w()]{{0,2}}$")
_MINUS_BEHIND = re.compile(rf"{_MINUS}(?!\w|\s*\n\s*\d)")
_OPENS, _CLOSES = re.compile(r"\(\s*[^\s\w()]{0,3}\s*$"), re.compile(r"\s*[^\s\w()]{0,3}\s*\)")
_UNIT = r"[^\S\n]*(?:[A-Z]{3}|[^\s\w()|.,:;!?]{1,3})?[^\S\n]*"
_LINE_ENDS = r"(?:$|\n(?![^\S\n]*[a-z]))"
_ALONE = (
    (rf"(?:\t|\s\s|[|:;]){_UNIT}$", rf"{_UNIT}(?:$|\n|\t|\s\s|[|;])"),
    (rf"^{_UNIT}$", rf"{_UNIT}(?:{_LINE_ENDS}|\t|\s\s|[|;])"),
    (rf":{_UNIT}$", rf"{_UNIT}[.,]?(?=\s|$)(?!\s*[a-z])"),
)
"""What stands before and behind an amount of an account: the borders of a cell or of a field. In a
sentence parentheses and dashes are asides."""
_LABELLED = (
    r"^[^\w\n]*[^\W\d_a-z][^\s()]*(?: [^\s()]+){0,5}(?:\s+(?:[A-Z]{3}|[\d_]|[^\w\s])+)*\s*$",
    rf"(?:[^\S\n]+(?:[A-Z]{{3}}|(?:[\d_]|[^\w\s])+))*[^\S\n]*{_LINE_ENDS}",
)
"""The same for a line's few words and nothing but amounts, which may be a statement's or a list of
prices: "Shipping (12.50)"."""
_BALANCED = re.compile(
    r"\b(?:net|gross|total|subtotal|sum|balance|result|results|profit|loss|losses|income|earnings|"
    r"revenue|deficit|surplus|cash|equity|tax|taxes|credit|refund|depreciation|amortisation|"
    r"amortization|change|changes|difference|variance|adjustments?|Ergebnis|Saldo|Verlust|Summe)\b",
    re.IGNORECASE,
)
"""What a statement has below zero, and a list of prices does not."""
_PLAIN = re.compile(r"[^\W\d][^\n()]*\s[^\w\s(]?\d[\d,.'\u2019]*[.,]\d\d\b[^()\w]*(?:[A-Z]{3})?\s*")
"""A line of words and an amount without parentheses, as a statement's others are."""
_AMOUNT = re.compile(r"\d[\d ,.'\u2019\u00a0]*[.,'\u2019]\d+|\d+")


def filled(leaf: Leaf, value: Any, quote: str) -> Any:
    """Return the value, or what the quote gives where it came empty; None where that is open."""
    if value is not None and (not isinstance(value, str) or value.strip()):
        return value
    kinds = {scalar.kind for scalar in leaf.scalars}
    if kinds == {"string"} and not any(scalar.hint for scalar in leaf.scalars):
        return None if is_blank(quote) else " ".join(quote.split())
    numbers = _AMOUNT.findall(quote)
    if not kinds <= {"integer", "number"} or len(numbers) != 1:
        return None
    plain = re.sub(r"[ '\u2019\u00a0]|,(?=\d{3}(?:\D|$))", "", numbers[0])
    if re.fullmatch(r"\d+(?:\.\d+)?", plain) is None:
        return None
    return float(plain) if "." in plain and "number" in kinds else int(float(plain))


def is_blank(quote: str) -> bool:
    """Return whether a quote is a form's field with its name alone: "Phone:", "Phone: ____"."""
    return re.search(r"[:=\uff1a][\s_.\u2026]*$", quote) is not None


def as_written(leaf: Leaf, value: Any, found: Evidence, passage: Passage) -> Any:
    """Return a text in the document's own letters, and a number with the document's own sign."""
    if isinstance(value, str) and all(s.kind == "string" and not s.hint for s in leaf.scalars):
        quote = passage.model_copy(update={"text": found.quote, "start": found.start})
        own = locate(value, quote)
        return " ".join(own.quote.split()) if own else value
    if isinstance(value, str):
        is_amount = any(s.hint == HINTS["decimal"] for s in leaf.scalars)
        told = float(value) if is_amount and re.fullmatch(r"\d+(?:\.\d+)?", value) else 0.0
        return f"-{value}" if told and _is_negative(told, found, passage) else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value <= 0 or not any(s.least < 0 for s in leaf.scalars):
        return value
    return -value if _is_negative(value, found, passage) else value


def _is_negative(value: float, found: Evidence, passage: Passage) -> bool:
    """Return whether the document writes an amount of the quote as a negative one."""
    for number in _AMOUNT.finditer(found.quote):
        start, end = (found.start - passage.start + at for at in number.span())
        before = passage.text[:start].rpartition("\n")[2]
        same = _digits(number.group()) == _digits(f"{value:f}")
        if same and _is_minus(number.group(), before, passage.text[end:], passage.text):
            return True
    return False


def _is_minus(number: str, before: str, behind: str, whole: str) -> bool:
    """Return whether a number is written as accounts do: with a sign, or in parentheses."""
    if _MINUS_BEFORE.search(before) and not re.match(r"[\w.,]*\d", behind):
        return True
    of_accounts = True
    if minus := _MINUS_BEHIND.match(behind):
        behind = behind[minus.end() :]
    else:
        opens, closes = _OPENS.search(before), _CLOSES.match(behind)
        # "(3)" may be a note: only an amount is negative in parentheses.
        if number.isdigit() or opens is None or closes is None:
            return False
        before, behind = before[: opens.start()], behind[closes.end() :]
        line = before + behind.partition("\n")[0]
        of_accounts = bool(_BALANCED.search(line) or re.search(r"\d[.,]\d\d\b", line))
        of_accounts = of_accounts or any(map(_PLAIN.fullmatch, whole.splitlines()))
    borders = (*_ALONE, _LABELLED) if of_accounts else _ALONE
    return any(re.search(a, before) and re.match(b, behind) for a, b in borders)


def open_date(leaf: Leaf, found: Evidence, passage: Passage, said: str) -> str:
    """Return a date whose day and month could be either; empty where something says which.

    Args:
        said: The field's description.
    """
    if not any(s.hint in {HINTS["date"], HINTS["date-time"]} for s in leaf.scalars):
        return ""
    match = _DAYS_OR_MONTHS.search(found.quote)
    if match is None or match[1] == match[3] or _ORDER.search(said):
        return ""
    every = [(int(m[1]), int(m[3])) for m in _DAYS_OR_MONTHS.finditer(passage.text)]
    return "" if any(max(pair) > _MONTHS for pair in every) else match.group()


def agrees(leaf: Leaf, value: Any, quote: str) -> bool:
    """Return whether a value can have been read from its quote, as far as code can tell.

    A number must be one of the quote's, where that has digits; free text must share a word with
    it. Dates, choices and the like are written in too many ways to say.
    """
    kinds = {scalar.kind for scalar in leaf.scalars if not scalar.hint}
    if isinstance(value, str):
        told = set(words(value))
        return kinds != {"string"} or not told or not told.isdisjoint(words(quote))
    if not isinstance(value, int | float) or not kinds <= {"integer", "number"}:
        return True
    there = {_digits(number) for number in NUMBER.findall(quote)}
    return not there or _digits(f"{value:f}") in there


def _digits(number: str) -> str:
    """Return a number's digits without the zeros that stand for nothing: 1,000.50 is 10005."""
    return re.sub(r"\D", "", number).strip("0")
