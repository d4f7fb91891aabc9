"""CPU tasks of the frontier tier: plan, look again where the efficient tier failed, write up."""

from __future__ import annotations

from nemoflows import rag
from nemoflows.rag import escalation
from nemoflows.tasks.client import desk
from nemoflows.tasks.flyte.decorator import TIERS, ready, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import (
    CONTEXT_TOKENS,
    Answer,
    ContextPolicy,
    Finding,
    Index,
    NotFound,
    ResearchPlan,
    ThinkingPolicy,
    Tiers,
)


@task(frontier=True)
def plan_research(
    question: str,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    tiers: Tiers = TIERS,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
    approved: str = "",
) -> ResearchPlan:
    """Split a question into sub-questions, one per agent.

    Args:
        question: What is asked.
        agents: How many sub-questions at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make, at least 1.
        tiers: The two models; the frontier one is asked.
        context_policy: What an agent reads: what it finds (retrieve), the whole corpus (pack), or
            whichever takes fewer tokens (auto).
        context_tokens: Most tokens, by an estimate, that a packed corpus may take.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.
        approved: What a person approved before this; it changes nothing, the task waits for it.

    Returns:
        The sub-questions that together cover the question.

    Raises:
        BadInput: The question is empty or too long.
        BadModel: A tier's endpoint, model or key is missing; checked before the first call.
    """
    del approved
    current = ready(
        tiers.efficient,
        task_name="research",
        efficient=True,
        thinking=thinking,
        budget_usd=budget_usd,
    )
    others = [] if current.settings.runs_in_task(tiers.efficient) else [tiers.efficient]
    own = desk(
        tiers,
        "frontier",
        task="plan_research",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=spent,
        about=[question],
    )
    return run(
        rag.plan_research(
            question,
            desk=own,
            n=agents,
            k=k,
            hops=hops,
            context_policy=context_policy,
            context_tokens=context_tokens,
            others=others,
        )
    )


@task(frontier=True)
def escalate(
    failed: list[NotFound],
    index: Index,
    tiers: Tiers = TIERS,
    k: int = 8,
    hops: int = 2,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> list[Finding]:
    """Research again on the frontier tier what the efficient tier did not find.

    Args:
        failed: What `research` hands on; an empty list costs nothing.
        index: What `build_index` returned.
        tiers: The two models; where both are the same nothing is asked twice.
        k: Passages in an agent's context.
        hops: Searches an agent may make, at least 1.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        One finding per question, in order; those not found either say so.

    Raises:
        EndpointDown: The frontier's endpoint does not answer.
    """
    again = escalation.next_model(tiers) is not None and bool(failed)
    if not again:
        return run(rag.escalate(failed, index=index, desk=None, k=k, hops=hops))
    before = [*(spent or []), *(key for missing in failed for key in missing.calls)]
    own = desk(
        tiers,
        "frontier",
        task="escalate",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=before,
        about=[*(missing.question for missing in failed), index.corpus_hash],
    )
    return run(rag.escalate(failed, index=index, desk=own, k=k, hops=hops))


@task(frontier=True)
def synthesise(
    question: str,
    findings: list[Finding],
    escalated: list[Finding] | None = None,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Answer:
    """Write an answer whose sentences cite quotes; code resolves every citation.

    Args:
        question: What was asked at first.
        findings: What `research` found, or `summarise` one by one.
        escalated: What `escalate` found.
        tiers: The two models; the frontier one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is done by the embedded tier. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        The answer, its citations, and what nothing supports or covers.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    found = escalation.merged(findings, escalated or [])
    before = [*(spent or []), *(key for finding in found for key in finding.calls)]
    own = desk(
        tiers,
        "frontier",
        task="synthesise",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=before,
        about=[question, *(quote.quote for f in found for quote in f.evidence)],
    )
    return run(rag.synthesise(question, found, desk=own))
