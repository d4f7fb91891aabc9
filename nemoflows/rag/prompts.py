"""The requests of the question flow in words, and the reading of what models answer.

What is quoted is in `nemoflows.rag.quoting`. Every citation is checked by code. A reader raises
`BadReply` with words the model can act on. At the last try (`final`) it keeps what holds and drops
the rest, so that one invented number does not cost the true ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from nemoflows.calls import Part, Reply, Request, Thinking
from nemoflows.calls.contract import (
    SHOWN,
    Step,
    a_list,
    a_string,
    an_object,
    field,
    passage_parts,
    question_part,
    request,
)
from nemoflows.errors import BadReply
from nemoflows.language.terms import terms
from nemoflows.rag.types import Citation
from nemoflows.types import Evidence, Finding, Passage

MAX_SUB_CHARACTERS = 400
MAX_QUERY_CHARACTERS = 300
MAX_SENTENCE_CHARACTERS = 600
MAX_SUMMARY_CHARACTERS = 1200
MAX_ANSWER_SENTENCES = 16

PLAN = Step("plan", 512, Thinking(mode="budget", budget_tokens=1024), priority=3)
REWRITE = Step("rewrite", 128, priority=2)
SUMMARISE = Step("summarise", 512, priority=1)
SYNTHESISE = Step("synthesise", 2048, Thinking(mode="budget", budget_tokens=2048), priority=0)


def plan(question: str, *, n: int) -> Request:
    """Ask for at most `n` sub-questions that together cover the question."""
    words = (
        f"Split the question into at most {n} sub-questions of at most {MAX_SUB_CHARACTERS} "
        "characters that can be searched for one by one and that together cover it. If it asks "
        "for one thing only, return it unchanged as the only one."
    )
    schema = an_object(questions=a_list(a_string(MAX_SUB_CHARACTERS), n))
    return request(PLAN, [question_part(question)], words, schema)


def rewrite(
    question: str,
    passages: Sequence[Passage],
    queries: Sequence[str],
) -> Request:
    """Ask for the query of the next hop, or an empty one."""
    words = (
        "The queries found these passages, and they do not answer the question yet. Write the "
        f"next search query, at most {MAX_QUERY_CHARACTERS} characters, naming what the passages "
        "revealed. If no search could add anything, return an empty query."
    )
    asked = [Part(kind="query", id=f"Q{n}", text=query) for n, query in enumerate(queries, 1)]
    parts = [question_part(question), *asked, *passage_parts(passages)]
    schema = an_object(query=a_string(MAX_QUERY_CHARACTERS))
    return request(REWRITE, parts, words, schema)


def summarise(question: str, evidence: Sequence[Evidence]) -> Request:
    """Ask for a short answer to the question from the quotes alone."""
    words = (
        "Answer the question from the quotes alone, in at most four sentences and "
        f"{MAX_SUMMARY_CHARACTERS} characters. Say nothing that the quotes do not say."
    )
    parts = [question_part(question), *evidence_parts(evidence)]
    schema = an_object(summary=a_string(MAX_SUMMARY_CHARACTERS))
    return request(SUMMARISE, parts, words, schema)


def synthesise(question: str, findings: Sequence[Finding]) -> Request:
    """Ask for an answer whose every sentence cites quotes by number."""
    words = (
        "Answer the question from the findings and quotes above. Write whole sentences, at most "
        f"{MAX_ANSWER_SENTENCES} of at most {MAX_SENTENCE_CHARACTERS} characters; under each give "
        "the numbers of the one to four quotes that support it. Say nothing that no quote supports."
    )
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 4}
    sentence = an_object(text=a_string(MAX_SENTENCE_CHARACTERS), citations=numbers)
    parts = [question_part(question), *finding_parts(findings)]
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
    return distinct(questions)[:n]


def distinct(questions: Sequence[str]) -> list[str]:
    """Return questions without those that differ in case, endings and little words alone."""
    first: dict[tuple[str, ...], str] = {}
    for question in questions:
        first.setdefault(tuple(terms(question)) or (question,), question)
    return list(first.values())


def read_query(reply: Reply) -> str:
    """Return the next query; empty where another search would add nothing."""
    return " ".join(field(reply, "query", str).split())


def read_summary(reply: Reply) -> str:
    """Return the summary."""
    summary: str = field(reply, "summary", str).strip()
    if not summary:
        raise BadReply("`summary` is empty.")
    return summary


def read_answer(reply: Reply, findings: Sequence[Finding], *, final: bool) -> Written:
    """Return the answer's text with `[n]` marks and its citations.

    A number that no quote has is an error first and dropped at the last try. A sentence that
    begins with an empty line begins a paragraph.
    """
    evidence = [quote for finding in findings for quote in finding.evidence]
    kept: dict[int, int] = {}
    lines: list[str] = []
    unsupported, dropped = [], []
    for told in field(reply, "sentences", list):
        row = {"text": told} if isinstance(told, str) else told
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


def _sentence(row: Any) -> tuple[str, list[int]]:
    fields: dict[str, Any] = row if isinstance(row, dict) else {}
    text, told = str(fields.get("text", "")), fields.get("citations")
    if told is None:
        told = _MARKS.findall(text) or None  # they may stand where they are shown
    if not _is_text(fields.get("text")) or told is None:
        raise BadReply("Each of `sentences` must be an object with `text` and `citations`.")
    numbers = [_numbers(each) for each in (told if isinstance(told, list) else [told])]
    if not all(numbers):
        raise BadReply("`citations` must be whole numbers.")
    return " ".join(_MARKS.sub("", text).split()), [n for some in numbers for n in some]


def _numbers(cited: Any) -> list[int]:
    """Return the whole numbers that a citation is, as `1`, `"1"`, `"[1]"` or `"[1], [2]"`."""
    is_one = isinstance(cited, int | str) and not isinstance(cited, bool)
    told = re.split(r"[\s,;\[\]()]+", str(cited)) if is_one else []
    told = [number for number in told if number]
    return [int(n) for n in told] if all(re.fullmatch(r"-?\d{1,9}", n) for n in told) else []
