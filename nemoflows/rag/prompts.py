"""Words for models: the requests of the question flow."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.calls import Part, Request, Thinking
from nemoflows.calls.parts import Step, a_list, a_string, an_object, passage_parts, request
from nemoflows.types import Evidence, Finding, ModelRef, Passage

MAX_QUOTES = 6
MAX_QUOTE_CHARACTERS = 600
MAX_SUMMARY_CHARACTERS = 1200
MAX_ANSWER_SENTENCES = 16

PLAN = Step("plan", 512, Thinking(mode="budget", budget_tokens=1024), priority=3)
EXTRACT = Step("extract", 1536, priority=2)
REWRITE = Step("rewrite", 128, priority=2)
SUMMARISE = Step("summarise", 512, priority=1)
SYNTHESISE = Step("synthesise", 2048, Thinking(mode="budget", budget_tokens=2048), priority=0)


def plan(question: str, *, n: int, model: ModelRef, salt: str = "") -> Request:
    """Ask for at most `n` sub-questions that together cover the question."""
    words = (
        f"Split the question into at most {n} sub-questions that can be searched for one by one "
        "and that together cover it. If it asks for one thing only, return it unchanged as the "
        "only one."
    )
    schema = an_object(questions=a_list(a_string(400), n))
    return request(PLAN, [_question(question)], words, schema, model=model, salt=salt)


def extract(
    question: str,
    passages: Sequence[Passage],
    *,
    model: ModelRef,
    salt: str = "",
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
    return request(EXTRACT, parts, words, schema, model=model, salt=salt, n_shared=n_shared)


def rewrite(
    question: str,
    passages: Sequence[Passage],
    queries: Sequence[str],
    *,
    model: ModelRef,
    salt: str = "",
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
    return request(REWRITE, parts, words, schema, model=model, salt=salt)


def summarise(
    question: str, evidence: Sequence[Evidence], *, model: ModelRef, salt: str = ""
) -> Request:
    """Ask for a short answer to the question from the quotes alone."""
    words = (
        "Answer the question from the quotes alone, in at most four sentences. Say nothing that "
        "the quotes do not say."
    )
    parts = [_question(question), *evidence_parts(evidence)]
    schema = an_object(summary=a_string(MAX_SUMMARY_CHARACTERS))
    return request(SUMMARISE, parts, words, schema, model=model, salt=salt)


def synthesise(
    question: str, findings: Sequence[Finding], *, model: ModelRef, salt: str = ""
) -> Request:
    """Ask for an answer whose every sentence cites quotes by number."""
    words = (
        "Answer the question from the findings and quotes below. Write whole sentences; under "
        "each give the numbers of the quotes that support it. Say nothing that no quote supports."
    )
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 4}
    sentence = an_object(text=a_string(600), citations=numbers)
    parts = [_question(question), *finding_parts(findings)]
    schema = an_object(sentences=a_list(sentence, MAX_ANSWER_SENTENCES))
    return request(SYNTHESISE, parts, words, schema, model=model, salt=salt)


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
