"""CPU tasks of the frontier tier: plan, look again where the efficient tier failed, write up."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows import rag
from nemoflows.rag.escalation import merged, to_escalate
from nemoflows.rag.types import (
    CONTEXT_TOKENS,
    Answer,
    ContextPolicy,
    Research,
    ResearchPlan,
)
from nemoflows.tasks.client import client, ready
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Finding, Index, Policy


@task(frontier=True)
def plan_research(
    question: str,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
    policy: Policy = POLICY,
) -> ResearchPlan:
    """Split a question into sub-questions, one per agent.

    Args:
        question: What is asked.
        agents: How many sub-questions at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make, at least 1.
        context_policy: What an agent reads: what it finds (retrieve), the whole corpus (pack), or
            whichever takes fewer tokens (auto).
        context_tokens: Most tokens, by an estimate, that a packed corpus may take.
        policy: How models are asked; the frontier one is.

    Returns:
        The sub-questions that together cover the question.

    Raises:
        BadInput: The question is empty or too long.
        BadModel: A tier's endpoint, model or key is missing; checked before the first call.
    """
    current = ready(policy.efficient, policy, task="research", efficient=True)
    here = current.settings.runs_in_task(policy.efficient)
    return run(
        rag.plan_research(
            question,
            client=client(policy, "frontier", task="plan_research", about=[question]),
            n=agents,
            k=k,
            hops=hops,
            context_policy=context_policy,
            context_tokens=context_tokens,
            others=[] if here else [policy.efficient],
        )
    )


@task(frontier=True, index=True)
def escalate(research: Research, index: Index, policy: Policy = POLICY) -> Research:
    """Research again on the frontier tier what failed a gate on the efficient one.

    Args:
        research: What `research` returned; where nothing failed, nothing is asked.
        index: What `build_index` returned.
        policy: How models are asked; the frontier one is, unless both are the same.

    Returns:
        One finding per question: the frontier's where it has one, else what there was.

    Raises:
        EndpointDown: The frontier's endpoint does not answer.
    """
    return _escalated(research, index, policy)


@task(frontier=True)
def synthesise(
    findings: Finding | list[Finding], question: str = "", policy: Policy = POLICY
) -> Answer:
    """Write an answer whose sentences cite quotes; code resolves every citation.

    Args:
        findings: What `summarise` returned, one finding or many.
        question: What was asked at first; empty is the question of the only finding.
        policy: How models are asked; the frontier one is.

    Returns:
        The answer, its citations, and what nothing supports or covers.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    every = [findings] if isinstance(findings, Finding) else findings
    return _written(question, every, [], policy)


@task(frontier=True, index=True)
def answer(research: Research, index: Index, policy: Policy = POLICY) -> Answer:
    """Look again at what failed a gate, then write the answer: `escalate` and `synthesise` in one.

    Args:
        research: What `research` returned.
        index: What `build_index` returned.
        policy: How models are asked; the frontier one is.

    Returns:
        The answer, its citations, and what nothing supports or covers.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
        EndpointDown: The frontier's endpoint does not answer.
    """
    known = _escalated(research, index, policy)
    written = _written(known.plan.question, known.findings, known.plan.calls, policy)
    return written.model_copy(update={"plan": known.plan, "calls": _all_calls(known, written)})


def _escalated(research: Research, index: Index, policy: Policy) -> Research:
    plan = research.plan
    failed = to_escalate(research.findings, policy)
    if not failed or policy.next_model is None:
        return research
    about = [*(missing.question for missing in failed), index.corpus_hash]
    own = client(
        policy, "frontier", task="escalate", spent=research.calls, about=about, escalated=True
    )
    again = run(rag.escalate(failed, index=index, client=own, k=plan.k, hops=plan.hops))
    return research.model_copy(update={"findings": merged(research.findings, again)})


def _written(
    question: str, findings: Sequence[Finding], before: Sequence[str], policy: Policy
) -> Answer:
    spent = [*before, *(key for finding in findings for key in finding.calls)]
    about = [question, *(quote.quote for finding in findings for quote in finding.evidence)]
    own = client(policy, "frontier", task="synthesise", spent=spent, about=about)
    return run(rag.synthesise(question, findings, client=own))


def _all_calls(research: Research, written: Answer) -> list[str]:
    return list(dict.fromkeys([*research.calls, *written.calls]))
