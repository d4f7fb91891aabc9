"""Quotes as they read in running text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nemoflows.engines.embedded.weights import Bag
from nemoflows.language.sentences import Sentence, sentences

_LEAD = re.compile(r"^\s*(?:(?:[-*+\u2022>]|\(?\d{1,3}[.)])\s+)+")
_QUOTED = re.compile(r"^[^\S\n]*(?:>[^\S\n]?)+", re.MULTILINE)
_IMAGE = re.compile(r"!\[[^\[\]]*\]\([^()]*\)")
_LINK = re.compile(r"\[([^\[\]]+)\](?:\([^()\s]*(?:\s+\"[^\"]*\")?\)|\[[^\[\]]*\])")
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)(?:\s*<[^>`]*>)?`")
_TARGET = re.compile(r"`([^`<]+?)\s*<[^>`]*>`__?")
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_TICKS = re.compile(r"``([^`]+)``")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_NOTE = re.compile(r"\[\d+(?:\s*,\s*\d+)*\]")
_TURNS = (
    (_IMAGE, ""), (_LINK, r"\1"), (_ROLE, r"`\1`"), (_TARGET, r"\1"), (_STRONG, r"\2"),
    (_TICKS, r"`\1`"), (_TAG, ""), (_NOTE, ""),
)  # fmt: skip

_WORDS = re.compile(r"\w")
_TELLS = re.compile(
    r"(?!```|~~~|@|#|import |from |\"\"\"|>>>\s*$|>>> (?:import|from) |[\])}]+[,:]?$|"
    r"[\"'][^\"']*[\"']:? ?[^(]*,?$|\w*$)\S"
)
"""A line of code that says what is done: no import, decorator, bracket or bare literal."""

_ELLIPSIS = "\u2026"

ALIKE = 0.7
"""Share of terms in common from which two sentences say the same."""


_SIGNS = re.compile(
    r"[{}=;|\\]|<[^>\s]*>?|->|\w\(|\w_\w|[\"']\s*:|\w\.\w+\(|\"\w+\"|\bself\b|\w\[", re.ASCII
)
_LITERAL = re.compile(r"`+[^`]*`+|\[[^\[\]]*\]\([^()]*\)|<https?://[^>]*>|</?\w+>")
CODE_SIGNS = 0.3
"""Signs of code per word from which a text is no prose."""
MAX_CODE_LINES = 3


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
    if kinds[:1] in (["code"], ["table"]):
        return _shown(found[:1])
    rest = next((n for n in range(1, len(kinds)) if kinds[n] in {"code", "bullet", "table"}), 0)
    if not rest or not found[rest - 1].text.rstrip("*_ ").endswith(":"):
        return _ended(_clean(quote))
    lead = _clean(quote[: found[rest - 1].end]).rstrip(":")
    return f"{lead}: {_shown(found[rest:]) or _ELLIPSIS}"


def _shown(found: Sequence[Sentence]) -> str:
    """Return on one line what a lead-in announces: code, a table or a list."""
    if found[0].kind == "code":
        return _code(found[0].text, MAX_CODE_LINES)
    if found[0].kind == "table":
        return _ended(_rows(found[0].text))
    return _ended("; ".join(_clean(each.text).rstrip(".;,") for each in found))


def _clean(quote: str) -> str:
    text = _LEAD.sub("", _QUOTED.sub("", quote))
    for pattern, new in _TURNS:
        text = pattern.sub(new, text)
    return " ".join(text.split())


def _ended(text: str) -> str:
    whole = text[-1:] in {".", "!", "?", "\u2026"} or text[-2:-1] in {".", "!", "?"}
    return text if whole or not text else text.rstrip(":;,") + "."


def _code(text: str, n: int) -> str:
    """Return the first `n` lines that tell something, the rest as an ellipsis."""
    lines = [line.strip().strip("`") for line in text.splitlines() if _TELLS.match(line.strip())]
    shown = "; ".join(f"`{line}`" for line in lines[:n])
    return f"{shown} \u2026" if n > 1 and len(lines) > n else shown


def _rows(table: str) -> str:
    rows = [
        [cell.strip() for cell in row.strip().strip("|").split("|")] for row in table.split("\n")
    ]
    told = [", ".join(filter(None, row)) for row in rows if any(map(_WORDS.search, row))]
    return "; ".join(_clean(row).rstrip(".") for row in told)


def alike(a: Bag, b: Bag) -> bool:
    """Tell whether two texts say the same, by their terms."""
    return len(a.terms & b.terms) >= ALIKE * max(1, len(a.terms | b.terms))
