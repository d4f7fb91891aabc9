"""Quotes as they read in running text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nemoflows.language.boxes import BOX
from nemoflows.language.sentences import Sentence, sentences

_NAMES = (
    "a|abbr|article|aside|b|blockquote|body|center|cite|code|dd|del|details|div|dl|dt|em|figcaption|"
    "figure|font|footer|h[1-6]|header|html|i|ins|kbd|label|li|main|mark|nav|ol|p|picture|pre|q|s|"
    "samp|section|small|span|strike|strong|sub|summary|sup|table|tbody|td|th|thead|tr|tt|u|ul|var"
)
TAG = (
    rf"<(?:br|hr|img|input|link|meta|source|wbr)\b[^<>]*>|</(?:{_NAMES})>|"
    rf"<(?:{_NAMES})(?:\s[^<>]*)?>(?=[^<>]*<)"
)
"""A tag of HTML; `<stdio.h>`, `List<String>` and `<ada@example.org>` are text."""
_MARKS = tuple(
    (re.compile(pattern, re.MULTILINE), new)
    for pattern, new in (
        (r"^[^\S\n]*(?:>[^\S\n]?)+", ""),  # quoted mail
        (r"\A\s*(?:(?:[-*+\u2022>]|\(?\d{1,3}[.)])\s+)+", ""),  # list marks
        (rf"\A(?!\s*\()\s*(?:{BOX.pattern})\s*", ""),  # boxes of forms
        (r"!\[[^\[\]]*\]\([^()]*\)", ""),  # images
        (r"\[([^\[\]]+)\](?:\([^()\s]*(?:\s+\"[^\"]*\")?\)|\[[^\[\]]*\])", r"\1"),  # links
        (r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^>`]*>)?`", r"`\1`"),  # roles
        (r"`([^`<]+?)\s*<[^>`]*>`__?", r"\1"),  # links of reStructuredText
        (r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2"),  # strong
        (r"``([^`]+)``", r"`\1`"),
        (TAG, ""),
        (r"\[\d+(?:\s*,\s*\d+)*\]|(?<=\S)\[\^[^\]\n]+\]|\A\[\^[^\]\n]+\]:\s*", ""),  # notes
    )
)
_TELLS = re.compile(
    r"(?!```|~~~|@|#|import |from |\"\"\"|>>>\s*$|>>> (?:import|from) |[\])}]+[,:]?$|"
    r"[\"'][^\"']*[\"']:? ?[^(]*,?$|\w*$)\S"
)
"""A line of code that says what is done: no import, decorator, bracket or bare literal."""
MAX_CODE_LINES = 3
_ELLIPSIS = "\u2026"
_STOPS = set(".!?\u2026\u3002\uff01\uff1f\u061f\u0964")
"""What a whole sentence ends with, in any script."""

_SIGNS = re.compile(
    r"[{}=;|\\]|<[^>\s]*>?|->|\w\(|\w_\w|[\"']\s*:|\w\.\w+\(|\"\w+\"|\bself\b|\w\[", re.ASCII
)
_LITERAL = re.compile(r"`+[^`]*`+|\[[^\[\]]*\]\([^()]*\)|<https?://[^>]*>|</?\w+>")
CODE_SIGNS = 0.3
"""Signs of code per word from which a text is no prose."""


def is_code(text: str) -> bool:
    """Tell whether a text reads as code although it stands where prose would."""
    bare = _LITERAL.sub(" x ", text)
    return len(_SIGNS.findall(bare)) >= CODE_SIGNS * max(4, len(bare.split()))


def readable(quote: str) -> str:
    """Return a quote on one line, without list marks, links and note numbers, as a sentence.

    Of code, which cannot stand in a line, its first lines are shown; of a table its rows.
    """
    found = [each for each in sentences(quote) if each.kind != "markup"]
    kinds = [each.kind for each in found]
    if kinds[:1] == ["record"]:
        lines = [line for each in found for line in each.text.splitlines()]
        return _ended("; ".join(_clean(line).rstrip(";,.") for line in lines).replace(":;", ":"))
    if kinds[:1] in (["code"], ["table"]):
        return _shown(found[:1])
    rest = next((n for n in range(1, len(kinds)) if kinds[n] in {"code", "bullet", "table"}), 0)
    if not rest or not found[rest - 1].text.rstrip("*_ ").endswith(":"):
        return _ended(_clean(quote))
    lead = _clean(quote[: found[rest - 1].end]).rstrip(":")
    return f"{lead}: {_shown(found[rest:]) or _ELLIPSIS}"


def _shown(found: Sequence[Sentence]) -> str:
    """Return on one line what a lead-in announces: code, a table or a list."""
    text = found[0].text
    if found[0].kind == "code":
        lines = [line.strip() for line in text.splitlines()]
        told = [f"`{line.strip('`')}`" for line in lines if _TELLS.match(line)]
        more = " \u2026" if len(told) > MAX_CODE_LINES else ""
        return "; ".join(told[:MAX_CODE_LINES]) + more
    parts = [each.text for each in found]
    if found[0].kind == "table":
        rows = [[cell.strip() for cell in row.strip(" |").split("|")] for row in text.split("\n")]
        filled = [row for row in rows if re.search(r"\w", "".join(row))]
        parts = [", ".join(cell or "-" for cell in row) for row in filled]
    return _ended("; ".join(_clean(part).rstrip(".;,") for part in parts))


def _clean(quote: str) -> str:
    for pattern, new in _MARKS:
        quote = pattern.sub(new, quote)
    return " ".join(quote.split())


def _ended(text: str) -> str:
    whole = text[-1:] in _STOPS or text[-2:-1] in set(".!?")
    return text if whole or not text else text.rstrip(":;,") + "."
