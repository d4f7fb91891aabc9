"""CPU tasks about the frontier's cost: before it is asked, and beside the efficient tier's."""

from __future__ import annotations

from nemoflows.audit import estimate
from nemoflows.audit.shadow import ask_both
from nemoflows.money.savings import ShadowSample
from nemoflows.progress import progress
from nemoflows.tasks.client import desk
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Answer, Tiers


@task()
def estimate_frontier(
    question: str,
    agents: int = 4,
    k: int = 8,
    hops: int = 2,
    tiers: Tiers = TIERS,
    budget_usd: float | None = None,
) -> str:
    """Say what the frontier is about to be asked, and the most that it can cost.

    Args:
        question: What is asked.
        agents: How many sub-questions at most.
        k: Passages in an agent's context.
        hops: Searches an agent may make, at least 1.
        tiers: The two models.
        budget_usd: The run's budget, which bounds it too; None where there is none.

    Returns:
        One sentence for a person who is to approve it; no call is made.
    """
    own = desk(tiers, "frontier", task="estimate_frontier", thinking="auto", fresh="")
    most = estimate.frontier_most(question, desk=own, n=agents, k=k, hops=hops)
    return estimate.told(most, tiers.frontier, budget_usd)


@task(frontier=True)
def shadow(
    calls: list[str],
    tiers: Tiers = TIERS,
    share: float = 0.0,
    fresh: str = "",
    budget_usd: float | None = None,
    answer: Answer | None = None,
) -> ShadowSample:
    """Ask the frontier, too, a share of what the efficient tier answered: it measures the saving.

    Args:
        calls: Keys of the run's calls, as `research` returns them in `spent`.
        tiers: The two models; where both are the same nothing is asked.
        share: Share of the efficient tier's answered calls, 0 to 1; 0 asks nothing.
        fresh: Salt of the run.
        budget_usd: Most that the run may cost in USD, this included; the sample ends there.
        answer: What `synthesise` returned: its calls count towards the budget, and come first.

    Returns:
        What both tiers took for the same requests, and how far their replies agree.

    Raises:
        BadInput: The share is none, or the journal is off.
    """
    if not share or tiers.frontier == tiers.efficient:
        return ShadowSample()
    own = desk(
        tiers,
        "frontier",
        task="shadow",
        thinking="auto",
        fresh=fresh,
        budget_usd=budget_usd,
        spent=[*calls, *(answer.calls if answer else [])],
        about=calls,
    )
    with progress("shadow") as tell:
        return run(ask_both(calls, efficient=tiers.efficient, desk=own, share=share, progress=tell))
