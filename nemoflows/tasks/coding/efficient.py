"""Coding tasks of the efficient tier: on a GPU where its model runs in process.

They run no code of the repository: that is for the tasks with a sandbox.
"""

from __future__ import annotations

from nemoflows.coding import steps
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Proposals
from nemoflows.tasks.client import about, desk
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import ThinkingPolicy, Tiers


@task(efficient=True)
def propose(
    baseline: Baseline,
    plan: ChangePlan,
    candidates: int = 8,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Proposals:
    """Propose changes, all at once on one engine; alike ones count once.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned.
        candidates: How many to ask for; 0 for none.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is not asked, and the value says so. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        Candidates that apply and compile, untested; none on the embedded tier.

    Raises:
        TooManyFailures: The calls of more than half were refused for good.
    """
    before = list(dict.fromkeys([*plan.calls, *(spent or [])]))
    own = desk(
        tiers,
        "efficient",
        task="propose",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=before,
        about=about(baseline),
    )
    return run(steps.propose(baseline, plan, desk=own, n=candidates)).after(before)


@task(efficient=True)
def repair(
    baseline: Baseline,
    plan: ChangePlan,
    rounds: list[list[Candidate]],
    candidates: int = 4,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Proposals:
    """Correct the candidates that came closest, with what the tests said of them.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned.
        rounds: What `run_tests` returned, round by round; nothing is asked where one passes.
        candidates: How many corrections to ask for; 0 for none.
        tiers: The two models; the efficient one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is not asked, and the value says so. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        Candidates that apply and compile, untested.
    """
    before = list(dict.fromkeys([*plan.calls, *(spent or [])]))
    own = desk(
        tiers,
        "efficient",
        task="repair",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=before,
        about=about(baseline, rounds),
    )
    tested = [candidate for tested in rounds for candidate in tested]
    found = steps.repair(baseline, plan, tested, desk=own, n=candidates, number=len(rounds))
    return run(found).after(before)
