"""Tasks of the efficient tier: on a GPU where its model runs in process, on a CPU otherwise."""

from __future__ import annotations

import logging
from typing import NamedTuple

from nemoflows import rag
from nemoflows.progress import progress
from nemoflows.rag import escalation
from nemoflows.tasks.client import desk
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import (
    Evidence,
    Finding,
    Index,
    NotFound,
    Passage,
    ResearchPlan,
    ThinkingPolicy,
    Tiers,
)

log = logging.getLogger("nemoflows")


class Researched(NamedTuple):
    """What the agents found, what the next tier must look at, and what it all cost."""

    findings: list[Finding]
    failed: list[NotFound]
    """Questions without a finding, and those whose finding a gate doubts."""
    spent: list[str]
    """Keys of every call so far, the plan's included: what a budget counts."""


@task(efficient=True)
def extract(
    question: str,
    passages: list[Passage],
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> list[Evidence]:
    """Return verbatim quotes that help to answer a question, the most useful first.

    Every quote was found by code, letter by letter, at its offsets in its document.

    Args:
        question: What is asked.
        passages: What `retrieve` returned.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        Quotes with document and offsets; empty where nothing helps.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    own = desk(
        tiers,
        "efficient",
        task="extract",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=spent,
        about=[question, *(passage.id for passage in passages)],
    )
    return run(rag.extract(question, passages, desk=own))


@task(efficient=True)
def summarise(
    question: str,
    evidence: list[Evidence],
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Finding:
    """Answer a question from quotes alone.

    Args:
        question: What is asked.
        evidence: What `extract` returned.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        A finding; without quotes one that says what was not found, and no model is asked.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    own = desk(
        tiers,
        "efficient",
        task="summarise",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=spent,
        about=[question, *(quote.quote for quote in evidence)],
    )
    return run(rag.summarise(question, evidence, desk=own))


@task(efficient=True)
def research(
    plan: ResearchPlan,
    index: Index,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Researched:
    """Send out one agent per sub-question, all at once on one engine.

    Each agent retrieves, extracts quotes, searches again with another query while they do not
    cover its question, and summarises. Where the plan packs, each reads the whole corpus instead.

    Args:
        plan: What `plan_research` returned: the questions, and what each agent reads.
        index: What `build_index` returned.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        Findings, one per answered sub-question; the questions that failed a gate, those with a
        doubted finding among them; and the keys of all calls so far.

    Raises:
        BadInput: The corpus is to be packed and does not fit.
        TooManyFailures: The calls of more than half of the agents were refused for good.
    """
    before = list(dict.fromkeys([*plan.calls, *(spent or [])]))
    own = desk(
        tiers,
        "efficient",
        task="research",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=before,
        about=[*plan.questions, index.corpus_hash],
    )
    context = rag.chosen_context(plan, index, tiers.efficient)
    if plan.context_policy != "retrieve":
        log.info("%s", context)
    with progress("research") as tell:
        found = run(
            rag.research(
                plan.questions,
                index=index,
                desk=own,
                k=plan.k,
                hops=plan.hops,
                corpus=rag.packed(index) if context.packs else None,
                progress=tell,
            )
        )
    return Researched(
        findings=[finding for finding in found if finding.not_found is None],
        failed=escalation.handed_on(found),
        spent=sorted({*before, *own.spent}),  # calls end in any order, and a rerun must agree
    )
