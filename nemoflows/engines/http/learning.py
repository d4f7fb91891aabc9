"""Which field of a request a server refuses, told by its 400: learned once instead of fatal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nemoflows.engines.http.errors import status_of, told_of, too_long_numbers

REFUSALS = frozenset({400, 404, 415, 422, 501})
"""Statuses with which servers refuse a request's form."""
MOST_LEARNED = 8
"""Fields that one call learns at most; each refusal is free, but none is asked for without end."""
_ALSO = {
    "response_format": r"json.?(schema|mode|object)|structured.?out|guided|grammar|response.?form",
    "output_config": r"json.?schema|structured.?output|output.?format",
    "reasoning_effort": r"reasoning|effort",
    "chat_template_kwargs": r"chat.?template|enable_thinking|thinking",
    "thinking": r"thinking|reasoning",
    "system": r"system.{0,3} (?:role|message|prompt)|role.{0,12}system",
}
"""What servers call a field beside its name."""
_COUNT = re.compile(r"(?<![\w.:-])(?:[01]-)?(\d[\d,]{1,9})(?![\w:-])")
"""A number of tokens, also behind `1-`, and none of a date, a version or an id."""


def refused_field(error: Exception, sent: Iterable[str]) -> str:
    """Return which of the fields that were sent a refusal is about; empty where it says none."""
    if status_of(error) not in REFUSALS or too_long_numbers(error):
        return ""
    told, names = told_of(error), sorted(sent, key=len, reverse=True)
    about = re.split(r"[.\[]", told.param)[0]
    if about in names:
        return about
    said = told.words[:2000]
    for name in names:
        if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", said):
            return name
    return next((n for n in names if n in _ALSO and re.search(_ALSO[n], said, re.IGNORECASE)), "")


def most_allowed(error: Exception, asked: int) -> int | None:
    """Return the most output tokens that a refusal allows; None where it names no fewer."""
    numbers = [int(each.replace(",", "")) for each in _COUNT.findall(told_of(error).words)]
    fewer = [n for n in numbers if 0 < n < asked]
    return max(fewer, default=None)
