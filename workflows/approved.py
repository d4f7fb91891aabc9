"""Answer a question as `workflows/rag.py` does, once a person has approved the frontier's cost.

pyflyte run workflows/approved.py answer_question_approved --question "…" --corpus DIR

In a terminal the question appears there; on a cluster the run waits in Flyte's console.
"""

from datetime import timedelta

from flytekit import approve, workflow

from nemoflows import Tiers, estimate_frontier
from nemoflows.tasks import EMBEDDER, TIERS
from nemoflows.types import ThinkingPolicy
from workflows.rag import Answered, answer_question


@workflow
def answer_question_approved(
    question: str,
    corpus: str,
    tiers: Tiers = TIERS,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    embedder: str = EMBEDDER,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    budget_usd: float | None = None,
) -> Answered:
    """Answer a question from a corpus, after a person has approved what the frontier may cost.

    Args:
        question: What is asked.
        corpus: Folder, file or object-store prefix of documents and tables.
        tiers: The efficient and the frontier model, each as `endpoint:name`.
        agents: Sub-questions to research at once, at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make.
        embedder: Embedding model as `endpoint:name`; empty for lexical search alone.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        budget_usd: Most that the run's calls may cost in USD; None is without end.

    Returns:
        The answer and the page that shows how it came about.
    """
    estimate = estimate_frontier(
        question=question, agents=agents, k=k, hops=hops, tiers=tiers, budget_usd=budget_usd
    )
    approved = approve(estimate, "frontier-spend", timeout=timedelta(days=1))
    answered: Answered = answer_question(
        question=question,
        corpus=corpus,
        tiers=tiers,
        agents=agents,
        k=k,
        hops=hops,
        embedder=embedder,
        thinking=thinking,
        fresh=fresh,
        budget_usd=budget_usd,
        approved=approved,
    )
    return answered
