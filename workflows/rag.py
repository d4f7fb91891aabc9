"""Ask a question of a folder of documents and get a cited answer.

pyflyte run workflows/rag.py answer_question --question "…" --corpus DIR
"""

from typing import NamedTuple

from flytekit import workflow
from flytekit.types.file import FlyteFile

from nemoflows import (
    Answer,
    Tiers,
    build_index,
    escalate,
    plan_research,
    report,
    research,
    shadow,
    synthesise,
)
from nemoflows.tasks import EMBEDDER, TIERS
from nemoflows.types import CONTEXT_TOKENS, ContextPolicy, ThinkingPolicy


class Answered(NamedTuple):
    """What a run returns."""

    answer: Answer
    page: FlyteFile


@workflow
def answer_question(
    question: str,
    corpus: str,
    tiers: Tiers = TIERS,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    embedder: str = EMBEDDER,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    shadow_share: float = 0.0,
    approved: str = "",
) -> Answered:
    """Answer a question from a corpus, with citations that are checked by code.

    Args:
        question: What is asked.
        corpus: Folder, file or object-store prefix of documents and tables.
        tiers: The efficient and the frontier model, each as `endpoint:name`.
        agents: Sub-questions to research at once, at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make.
        embedder: Embedding model as `endpoint:name`; empty for lexical search alone.
        context_policy: What an agent reads: what it finds (retrieve), the whole corpus (pack), or
            whichever takes fewer tokens (auto).
        context_tokens: Most tokens, by an estimate, that a packed corpus may take.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the run's calls may cost in USD; what no longer fits is done by the
            embedded tier. None is without end.
        shadow_share: Share of the efficient tier's calls that the frontier is asked too, 0 to 1:
            it measures the saving and what quality is given up.
        approved: What a person approved before: see `workflows/approved.py`.

    Returns:
        The answer and the page that shows how it came about.
    """
    index = build_index(corpus=corpus, embedder=embedder)
    plan = plan_research(
        question=question,
        agents=agents,
        k=k,
        hops=hops,
        tiers=tiers,
        context_policy=context_policy,
        context_tokens=context_tokens,
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        approved=approved,
    )
    found = research(
        plan=plan,
        index=index,
        tiers=tiers,
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )
    escalated = escalate(
        failed=found.failed,
        index=index,
        tiers=tiers,
        k=k,
        hops=hops,
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=found.spent,
    )
    answer = synthesise(
        question=question,
        findings=found.findings,
        escalated=escalated,
        tiers=tiers,
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=found.spent,
    )
    measured = shadow(
        calls=found.spent,
        tiers=tiers,
        share=shadow_share,
        fresh=fresh,
        budget_usd=budget_usd,
        answer=answer,
    )
    page = report(
        answer=answer,
        index=index,
        findings=found.findings,
        escalated=escalated,
        plan=plan,
        tiers=tiers,
        spent=found.spent,
        shadow=measured,
        budget_usd=budget_usd,
    )
    return Answered(answer=answer, page=page)
