"""Tasks of the efficient tier: on a GPU where its model runs in process, on a CPU otherwise."""

from __future__ import annotations

import logging
from typing import NamedTuple

from nemoflows import agents, rag, routing
from nemoflows.progress import progress
from nemoflows.tasks._session import run
from nemoflows.tasks._task import TIERS, ready, task
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
    """What the agents found, and what the next tier must look at."""

    findings: list[Finding]
    failed: list[NotFound]


@task(efficient=True)
def extract(
    question: str,
    passages: list[Passage],
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
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

    Returns:
        Quotes with document and offsets; empty where nothing helps.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    desk = _desk(tiers, thinking, fresh, retry_unusable, "extract")
    return run(rag.extract(question, passages, desk=desk))


@task(efficient=True)
def summarise(
    question: str,
    evidence: list[Evidence],
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
) -> Finding:
    """Answer a question from quotes alone.

    Args:
        question: What is asked.
        evidence: What `extract` returned.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.

    Returns:
        A finding; without quotes one that says what was not found, and no model is asked.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    desk = _desk(tiers, thinking, fresh, retry_unusable, "summarise")
    return run(rag.summarise(question, evidence, desk=desk))


@task(efficient=True)
def research(
    plan: ResearchPlan,
    index: Index,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
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

    Returns:
        Findings, one per answered sub-question, and the questions that failed.

    Raises:
        BadInput: The corpus is to be packed and does not fit.
        TooManyFailures: The calls of more than half of the agents were refused for good.
    """
    desk = _desk(tiers, thinking, fresh, retry_unusable, "research")
    context = rag.chosen_context(plan, index, tiers.efficient)
    if plan.context_policy != "retrieve":
        log.info("%s", context)
    with progress("research") as tell:
        found = run(
            rag.research(
                plan.questions,
                index=index,
                desk=desk,
                k=plan.k,
                hops=plan.hops,
                corpus=rag.packed(index) if context.packs else None,
                progress=tell,
            )
        )
    answered = [finding for finding in found if finding.not_found is None]
    return Researched(findings=answered, failed=routing.failed(found))


def _desk(
    tiers: Tiers, thinking: ThinkingPolicy, fresh: str, retry_unusable: int, task_name: str
) -> agents.Desk:
    model = tiers.efficient
    current = ready(model, task_name=task_name, efficient=True, thinking=thinking)
    return agents.Desk(
        door=current.door,
        model=model,
        salt=fresh,
        thinking=thinking,
        retry_unusable=retry_unusable,
    )
