"""What the question flow notes for its report: the answer, its sources in context, findings."""

from __future__ import annotations

import re

from nemoflows.money.savings import ShadowSample
from nemoflows.rag.retrieval import opened
from nemoflows.rag.steps import chosen_context
from nemoflows.rag.types import Answer, Citation
from nemoflows.reporting.data import Context, ReportNotes
from nemoflows.types import Index, Policy

CONTEXT_CHARACTERS = 500
"""Characters shown on either side of a quote."""

at_marks = re.compile(r"\[(\d{1,4})\]").split
"""Splits an answer's text at its citations: texts, and in every other place the number."""


def answer_notes(
    answer: Answer, *, index: Index, policy: Policy, shadow: ShadowSample | None = None
) -> ReportNotes:
    """Return what a run's report shows beside its calls."""
    document_text, plan = opened(index.uri).document_text, answer.plan
    return ReportNotes(
        answer=answer,
        findings=answer.findings,
        contexts=[in_context(each, document_text(each.document)) for each in answer.citations],
        index=index,
        tiers={"efficient": str(policy.efficient), "frontier": str(policy.frontier)},
        reading=str(chosen_context(plan, index, policy.efficient)) if plan else "",
        budget_usd=policy.budget_usd,
        shadow=shadow or ShadowSample(),
        call_keys=answer.calls,
    )


def in_context(citation: Citation, text: str) -> Context:
    """Return a citation with its surroundings, cut at word borders."""
    before = text[max(0, citation.start - CONTEXT_CHARACTERS) : citation.start]
    after = text[citation.end : citation.end + CONTEXT_CHARACTERS]
    if citation.start > CONTEXT_CHARACTERS:
        before = "…" + before.partition(" ")[2]
    if citation.end + CONTEXT_CHARACTERS < len(text):
        after = after.rpartition(" ")[0] + "…"
    quote = text[citation.start : citation.end]
    return Context(citation=citation, before=before, quote=quote, after=after)


def citation_numbers(answer: Answer | None) -> dict[tuple[str, int, int], int]:
    """Return the number of each place that an answer cites."""
    cited = answer.citations if answer else []
    return {(each.document, each.start, each.end): each.number for each in cited}
