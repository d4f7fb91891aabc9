"""The requests of the question flow in words, and the reading of what models answer.

Every quote and citation is checked by code. A reader raises `BadReply` with words the model can act
on. At the last try (`final`) it keeps what holds and drops the rest, so that one invented quote
does not cost the true ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nemoflows.calls import Part, Reply, Request, Thinking
from nemoflows.calls.contract import (
    SHOWN,
    Step,
    a_list,
    a_string,
    an_object,
    field,
    locate,
    passage_parts,
    request,
)
from nemoflows.errors import BadInput, BadReply
from nemoflows.rag.types import Citation
from nemoflows.types import Evidence, Finding, Passage

MAX_QUESTION_CHARACTERS = 8_000
MAX_QUOTES = 6
MAX_QUOTE_CHARACTERS = 600
MAX_SUMMARY_CHARACTERS = 1200
MAX_ANSWER_SENTENCES = 16

PLAN = Step("plan", 512, Thinking(mode="budget", budget_tokens=1024), priority=3)
EXTRACT = Step("extract", 1536, priority=2)
REWRITE = Step("rewrite", 128, priority=2)
SUMMARISE = Step("summarise", 512, priority=1)
SYNTHESISE = Step("synthesise", 2048, Thinking(mode="budget", budget_tokens=2048), priority=0)


def checked_question(question: str) -> str:
    """Return the question without surrounding space.

    Raises:
        BadInput: It is empty or too long; no call was made.
    """
    stripped = question.strip()
    if not stripped:
        raise BadInput("The question is empty. Ask something; no call was made.")
    if len(stripped) > MAX_QUESTION_CHARACTERS:
        raise BadInput(
            f"The question has {len(stripped)} characters, more than {MAX_QUESTION_CHARACTERS}. "
            "Put long material into the corpus; no call was made."
        )
    return stripped


def plan(question: str, *, n: int) -> Request:
    """Ask for at most `n` sub-questions that together cover the question."""
    words = (
        f"Split the question into at most {n} sub-questions that can be searched for one by one "
        "and that together cover it. If it asks for one thing only, return it unchanged as the "
        "only one."
    )
    schema = an_object(questions=a_list(a_string(400), n))
    return request(PLAN, [_question(question)], words, schema)


def extract(
    question: str,
    passages: Sequence[Passage],
    *,
    shared: bool = False,
) -> Request:
    """Ask for the verbatim quotes that help to answer the question.

    Args:
        shared: Other requests have the very same passages, which then come first.
    """
    words = (
        "Copy, word for word, the sentences of the passages that help to answer the question, the "
        f"most useful first, at most {MAX_QUOTES}, each with the passage it stands in. Change "
        "nothing in them. If nothing helps, return an empty list."
    )
    quote = an_object(passage=a_string(16), quote=a_string(MAX_QUOTE_CHARACTERS))
    asked, read = [_question(question)], passage_parts(passages)
    parts = [*read, *asked] if shared else [*asked, *read]
    schema = an_object(quotes=a_list(quote, MAX_QUOTES))
    n_shared = len(read) if shared else 0
    return request(EXTRACT, parts, words, schema, n_shared=n_shared)


def rewrite(
    question: str,
    passages: Sequence[Passage],
    queries: Sequence[str],
) -> Request:
    """Ask for the query of the next hop, or an empty one."""
    words = (
        "The queries found these passages, and they do not answer the question yet. Write the "
        "next search query, naming what the passages revealed. If no search could add anything, "
        "return an empty query."
    )
    asked = [Part(kind="query", id=f"Q{n}", text=query) for n, query in enumerate(queries, 1)]
    parts = [_question(question), *asked, *passage_parts(passages)]
    schema = an_object(query=a_string(300))
    return request(REWRITE, parts, words, schema)


def summarise(question: str, evidence: Sequence[Evidence]) -> Request:
    """Ask for a short answer to the question from the quotes alone."""
    words = (
        "Answer the question from the quotes alone, in at most four sentences. Say nothing that "
        "the quotes do not say."
    )
    parts = [_question(question), *evidence_parts(evidence)]
    schema = an_object(summary=a_string(MAX_SUMMARY_CHARACTERS))
    return request(SUMMARISE, parts, words, schema)


def synthesise(question: str, findings: Sequence[Finding]) -> Request:
    """Ask for an answer whose every sentence cites quotes by number."""
    words = (
        "Answer the question from the findings and quotes below. Write whole sentences; under "
        "each give the numbers of the quotes that support it. Say nothing that no quote supports."
    )
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 4}
    sentence = an_object(text=a_string(600), citations=numbers)
    parts = [_question(question), *finding_parts(findings)]
    schema = an_object(sentences=a_list(sentence, MAX_ANSWER_SENTENCES))
    return request(SYNTHESISE, parts, words, schema)


def evidence_parts(evidence: Sequence[Evidence], *, first: int = 1) -> list[Part]:
    """Return quotes as data, numbered from `first`."""
    return [
        Part(
            kind="evidence",
            id=str(n),
            heading=e.heading or e.document,
            text=e.quote,
            document=e.document,
        )
        for n, e in enumerate(evidence, first)
    ]


def finding_parts(findings: Sequence[Finding]) -> list[Part]:
    """Return each finding followed by its quotes; the quotes are numbered throughout."""
    parts, first = [], 1
    for n, finding in enumerate(findings, 1):
        parts.append(
            Part(kind="finding", id=f"F{n}", heading=finding.question, text=finding.summary)
        )
        parts += evidence_parts(finding.evidence, first=first)
        first += len(finding.evidence)
    return parts


def _question(question: str) -> Part:
    return Part(kind="question", text=question)


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


def quoting(
    question: str, passages: Sequence[Passage], *, shared: bool = False
) -> tuple[Request, Callable[[Reply, bool], list[Evidence]]]:
    """Return the request for quotes, and how its reply is read: each found in its passage.

    Args:
        shared: Other agents read the very same passages.
    """

    def read(reply: Reply, final: bool) -> list[Evidence]:
        return read_quotes(reply, passages, final=final)

    return extract(question, passages, shared=shared), read


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
