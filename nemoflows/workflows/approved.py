"""Answer a question as `workflows/rag.py` does, once a person has approved the frontier's cost.

pyflyte run workflows/approved.py answer_question_approved --question "…" --corpus DIR

In a terminal the question appears there; on a cluster the run waits in Flyte's console.
"""

from datetime import timedelta

from flytekit import approve, workflow

from nemoflows import Policy, estimate_frontier
from nemoflows.tasks import POLICY
from nemoflows.workflows.rag import Answered, answer_question


@workflow
def answer_question_approved(
    question: str,
    corpus: str,
    policy: Policy = POLICY,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
) -> Answered:
    """Answer a question from a corpus, after a person has approved what the frontier may cost.

    Args:
        question: What is asked.
        corpus: Folder, file or object-store prefix of documents and tables.
        policy: How models are asked: the models of both tiers and of vectors, budget, thinking
            and more; as JSON, YAML or the name of such a file.
        agents: Sub-questions to research at once, at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make.

    Returns:
        The answer and the report that shows how it came about.
    """
    estimate = estimate_frontier(question=question, agents=agents, k=k, hops=hops, policy=policy)
    approved = approve(estimate, "frontier-spend", timeout=timedelta(days=1))
    answered: Answered = answer_question(
        question=question,
        corpus=corpus,
        policy=policy,
        agents=agents,
        k=k,
        hops=hops,
    )
    _ = approved >> answered.answer
    return answered
