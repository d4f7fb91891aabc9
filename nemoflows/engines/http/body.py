"""The body of a reply as it came, and reading it: into values that may be missing, never an error.

A body with status 200 is paid. It is kept before it is read, and reading it depends on nothing
else: what is odd beside the text never costs the text, and a reading that is mended later finds
all that came.
"""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import Any

from nemoflows.calls import Reply, Unusable
from nemoflows.engines.http.errors import ForeignReplyError, MalformedReplyError, sanitised

MOST_CHARACTERS = 2**24
"""Longest body that is read and kept whole; the longest outputs take a tenth of it."""
MOST_BYTES = 4 * MOST_CHARACTERS + 4
"""Of a body, as far as it is read at all: a character too long."""
MOST_PACKED = 3
"""Times that a body may be packed."""
_PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip and zlib begin, and JSON never."""
_ANY_PACKING = 32 + zlib.MAX_WBITS
_LONG_NUMBER = 300
"""Digits of a whole number above which it is infinite: a float ends there, a parser soon after."""


def as_text(content: bytes, charset: str = "") -> str:
    """Return a body as text, a character too long where it is longer than is kept.

    Its bytes tell UTF-8, UTF-16 and UTF-32 apart, for JSON begins in ASCII; of what is none of
    them its headers tell the charset.
    """
    content = content[:MOST_BYTES]
    told = json.detect_encoding(content)
    with suppress(UnicodeError, LookupError):
        return content.decode(told, "replace" if "8" not in told else "strict")
    with suppress(UnicodeError, LookupError):
        return content.decode(charset)
    return content.decode("utf-8", "replace").removeprefix("\ufeff")


def unzipped(content: bytes) -> bytes:
    """Return a body without the packing that no header told of, as far as it is kept."""
    for _ in range(MOST_PACKED):
        if not content.startswith(_PACKED):
            break
        try:
            content = zlib.decompressobj(_ANY_PACKING).decompress(content, MOST_BYTES + 1)
        except zlib.error:
            break
    return content


def parsed(raw: str) -> dict[str, Any]:
    """Return a body's JSON object.

    Raises:
        MalformedReplyError: It is none: a page, a stream, half a body, another kind of value.
        RecursionError: It is nested too deep to be read.
    """
    try:
        found = _parsed(raw)
    except ValueError as error:
        raise MalformedReplyError("status 200 with no JSON") from error
    if isinstance(found, list) and len(found) == 1:  # as Google's errors come
        found = found[0]
    if not isinstance(found, dict):
        raise ForeignReplyError(found)
    return found


def _parsed(raw: str) -> Any:
    try:
        return json.loads(raw, strict=False)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of thousands of digits
        return json.loads(raw, strict=False, parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONG_NUMBER else float("inf")


def unreadable(came: Reply, why: str) -> Unusable:
    """Return the outcome of a paid body that says nothing to us."""
    detail = f"The reply was paid and recorded and cannot be read: {sanitised(why)}."
    return Unusable(reason="invalid", detail=detail, reply=came)


def words(told: object) -> str:
    """Return the text of a field that is text, a part with text, or a list of these.

    What is none of them is passed over: the reply is paid for, and checked afterwards.
    """
    if isinstance(told, list):
        return "".join(map(words, told))
    if isinstance(told, dict):
        return next((words(told[key]) for key in ("text", "content") if told.get(key)), "")
    return told if isinstance(told, str) else ""


def fields(told: object) -> dict[str, Any]:
    """Return a field that is an object; an empty one where it is something else."""
    return told if isinstance(told, dict) else {}


def objects(told: object) -> list[dict[str, Any]]:
    """Return the objects of a field that is a list of them."""
    return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []


def as_json(told: object) -> str:
    """Return a tool call's arguments as JSON; some servers have read it already."""
    return told if isinstance(told, str) else json.dumps(told or {})
