"""Ask a question of a folder of documents and get a cited answer.

pyflyte run workflows/rag.py answer_question --question "…" --corpus DIR
"""

from typing import NamedTuple

from flytekit import workflow
from flytekit.types.file import FlyteFile

from nemoflows import Answer, Policy, answer, build_index, plan_research, report, research
from nemoflows.rag.types import CONTEXT_TOKENS, ContextPolicy
from nemoflows.tasks import POLICY


class Answered(NamedTuple):
    """What a run returns."""

    answer: Answer
    report: FlyteFile


@workflow
def answer_question(
    question: str,
    corpus: str,
    policy: Policy = POLICY,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
) -> Answered:
    """Answer a question from a corpus, with citations that are checked by code.

    Args:
        question: What is asked.
        corpus: Folder, file or object-store prefix of documents and tables.
        policy: How models are asked: the models of both tiers and of vectors, budget, thinking
            and more; as JSON, YAML or the name of such a file.
        agents: Sub-questions to research at once, at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make.
        context_policy: What an agent reads: what it finds (retrieve), the whole corpus (pack), or
            whichever takes fewer tokens (auto).
        context_tokens: Most tokens, by an estimate, that a packed corpus may take.

    Returns:
        The answer and the report that shows how it came about.
    """
    index = build_index(corpus=corpus, policy=policy)
    plan = plan_research(
        question=question,
        agents=agents,
        k=k,
        hops=hops,
        context_policy=context_policy,
        context_tokens=context_tokens,
        policy=policy,
    )
    found = research(plan=plan, index=index, policy=policy)
    answered = answer(research=found.research, index=index, policy=policy)
    written = report(answer=answered, index=index, policy=policy)
    return Answered(answer=answered, report=written)
