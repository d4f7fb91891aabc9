"""CPU tasks about the frontier's cost: before it is asked, and beside the efficient tier's."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.audit import estimate
from nemoflows.llm.shadow import ask_both
from nemoflows.money.savings import ShadowSample
from nemoflows.progress import progress
from nemoflows.rag.types import Answer
from nemoflows.tasks.client import client, ready
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Policy


@task(frontier=True)
def estimate_frontier(
    question: str, agents: int = 4, k: int = 8, hops: int = 2, policy: Policy = POLICY
) -> str:
    """Say what the frontier is about to be asked, and the most that it can cost.

    Args:
        question: What is asked.
        agents: How many sub-questions at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make, at least 1.
        policy: How models are asked; its budget bounds the cost too.

    Returns:
        One sentence for a person who is to approve it; no call is made.

    Raises:
        BadModel: A tier's endpoint, key or price is missing.
    """
    # A person is asked next: what would fail afterwards fails now.
    ready(policy.efficient, policy, task="research", efficient=True)
    own = client(policy, "frontier", task="estimate_frontier")
    most = estimate.frontier_most(question, client=own, n=agents, k=k, hops=hops)
    return estimate.told(most, policy.frontier, policy.budget_usd)


@task(frontier=True)
def shadow(answer: Answer, policy: Policy = POLICY) -> ShadowSample:
    """Ask the frontier, too, a share of what the efficient tier answered: it measures the saving.

    Args:
        answer: What `answer` or `synthesise` returned; its calls are drawn from.
        policy: How models are asked; `shadow_share` says how many.

    Returns:
        What both tiers took for the same requests, and how far their replies agree.

    Raises:
        BadInput: The journal is off.
    """
    return shadowed(answer.calls, policy)


def shadowed(calls: Sequence[str], policy: Policy, spent: Sequence[str] = ()) -> ShadowSample:
    """Return the shadow sample of calls; empty where the policy wants none.

    Args:
        spent: Further calls that count towards the budget.
    """
    if not policy.shadow_share or policy.next_model is None:
        return ShadowSample()
    own = client(policy, "frontier", task="shadow", spent=[*calls, *spent], about=calls)
    with progress("shadow") as tell:
        return run(
            ask_both(
                calls,
                efficient=policy.efficient,
                client=own,
                share=policy.shadow_share,
                progress=tell,
            )
        )
