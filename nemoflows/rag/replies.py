"""Reading what models wrote: JSON to values, every quote and citation checked by code.

A reader raises `BadReply` with words the model can act on. At the last try (`final`) it keeps
what holds and drops the rest, so that one invented quote does not cost the true ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from nemoflows.calls import Reply
from nemoflows.calls.reading import SHOWN, field, locate
from nemoflows.errors import BadReply
from nemoflows.types import Citation, Evidence, Finding, Passage

_MARKS = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
"""Marks are set by code; one that a model writes into its text would resolve to nothing."""


PARAGRAPH = "\n\n"
"""What a sentence's text begins with where it begins a paragraph."""


class Written(NamedTuple):
    """A synthesised answer, its citations resolved."""

    text: str
    citations: list[Citation]
    unsupported: list[str]
    dropped: list[str]


def read_plan(reply: Reply, *, n: int) -> list[str]:
    """Return the sub-questions, at most `n`."""
    questions = [" ".join(q.split()) for q in field(reply, "questions", list) if _is_text(q)]
    if not questions:
        raise BadReply("`questions` holds no question.")
    return list(dict.fromkeys(questions))[:n]


def read_query(reply: Reply) -> str:
    """Return the next query; empty where another search would add nothing."""
    return " ".join(field(reply, "query", str).split())


def read_summary(reply: Reply) -> str:
    """Return the summary."""
    summary: str = field(reply, "summary", str).strip()
    if not summary:
        raise BadReply("`summary` is empty.")
    return summary


def read_quotes(reply: Reply, passages: Sequence[Passage], *, final: bool) -> list[Evidence]:
    """Return the quotes with their offsets, each found verbatim in the passage it names.

    White space may differ; the quote that is returned is the document's own.
    """
    by_mark = {f"P{n}": passage for n, passage in enumerate(passages, 1)}
    found: list[Evidence] = []
    wrong: list[str] = []
    rows = field(reply, "quotes", list)
    for row in rows:
        mark, quote = _pair(row)
        evidence = locate(quote, by_mark.get(mark))
        if evidence is None:
            wrong.append(f"{mark[:8]}: {quote[:80]!r}")
        elif evidence not in found:
            found.append(evidence)
    if wrong and not (final and found):
        raise BadReply(f"Not word for word in the passage named: {'; '.join(wrong[:SHOWN])}.")
    return found


def read_answer(reply: Reply, findings: Sequence[Finding], *, final: bool) -> Written:
    """Return the answer's text with `[n]` marks and its citations.

    A number that no quote has is an error first and dropped at the last try. A sentence that
    begins with an empty line begins a paragraph.
    """
    evidence = [quote for finding in findings for quote in finding.evidence]
    kept: dict[int, int] = {}
    lines: list[str] = []
    unsupported, dropped = [], []
    for row in field(reply, "sentences", list):
        text, numbers = _sentence(row)
        known = [n for n in numbers if 1 <= n <= len(evidence)]
        dropped += [f"[{n}] in {text[:80]!r}" for n in numbers if n not in known]
        known = list(dict.fromkeys(_first_alike(evidence, n) for n in known))
        marks = "".join(f"[{kept.setdefault(n, len(kept) + 1)}]" for n in known)
        before = ("\n\n" if row["text"].startswith(PARAGRAPH) else " ") if lines else ""
        lines.append(before + f"{text} {marks}".strip())
        if not known:
            unsupported.append(text)
    if dropped and not final:
        raise BadReply(
            f"There are quotes 1 to {len(evidence)} only; these are not among them: "
            f"{'; '.join(dropped[:SHOWN])}."
        )
    if not lines:
        raise BadReply("`sentences` is empty.")
    citations = [_citation(number, evidence[n - 1]) for n, number in kept.items()]
    return Written("".join(lines), citations, unsupported, dropped)


def _first_alike(evidence: Sequence[Evidence], number: int) -> int:
    """Return the first number that names the same stretch of the same document."""
    wanted = evidence[number - 1]
    place = (wanted.document, wanted.start, wanted.end)
    return 1 + next(n for n, e in enumerate(evidence) if (e.document, e.start, e.end) == place)


def _citation(number: int, evidence: Evidence) -> Citation:
    return Citation(
        number=number,
        document=evidence.document,
        start=evidence.start,
        end=evidence.end,
        quote=evidence.quote,
        heading=evidence.heading,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _pair(row: Any) -> tuple[str, str]:
    if not isinstance(row, dict) or not _is_text(row.get("quote")):
        raise BadReply("Each of `quotes` must be an object with `passage` and `quote`.")
    return str(row.get("passage", "")), row["quote"]


def _sentence(row: Any) -> tuple[str, list[int]]:
    numbers = row.get("citations") if isinstance(row, dict) else None
    if not isinstance(numbers, list) or not _is_text(row.get("text")):
        raise BadReply("Each of `sentences` must be an object with `text` and `citations`.")
    if not all(isinstance(n, int) for n in numbers):
        raise BadReply("`citations` must be whole numbers.")
    return " ".join(_MARKS.sub("", row["text"]).split()), numbers
