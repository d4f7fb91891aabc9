"""CPU coding tasks of the frontier tier: plan, go on where the efficient tier failed, review."""

from __future__ import annotations

from nemoflows.coding import candidates, steps
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Patch, Proposals
from nemoflows.rag import escalation
from nemoflows.tasks.client import about, desk
from nemoflows.tasks.flyte.decorator import TIERS, ready, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import ThinkingPolicy, Tiers


@task(frontier=True)
def plan_change(
    baseline: Baseline,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> ChangePlan:
    """Say what should be changed, and in which files.

    Args:
        baseline: What `examine` returned.
        tiers: The two models; the frontier one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is not asked, and the value says so. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        The plan; on the embedded tier the most suspicious lines.

    Raises:
        BadModel: A tier's endpoint, model or key is missing; checked before the first call.
    """
    current = ready(
        tiers.efficient,
        task_name="propose",
        efficient=True,
        thinking=thinking,
        budget_usd=budget_usd,
    )
    remote = tiers.efficient.endpoint != "embedded"
    others = (
        [tiers.efficient] if remote and not current.settings.runs_in_task(tiers.efficient) else []
    )
    own = desk(
        tiers,
        "frontier",
        task="plan_change",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=spent,
        about=about(baseline),
    )
    return run(steps.plan_change(baseline, desk=own, others=others))


@task(frontier=True)
def escalate_change(
    baseline: Baseline,
    plan: ChangePlan,
    rounds: list[list[Candidate]],
    candidates: int = 1,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Proposals:
    """Ask the frontier tier, only where no candidate passes.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned.
        rounds: What `run_tests` returned, round by round; nothing is asked where one passes.
        candidates: How many changes to ask for.
        tiers: The two models; where both are the same nothing is asked twice.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is not asked, and the value says so. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        Candidates that apply and compile, untested.

    Raises:
        EndpointDown: The frontier's endpoint does not answer.
    """
    tested = [candidate for tested in rounds for candidate in tested]
    before = list(dict.fromkeys([*plan.calls, *(spent or [])]))
    frontier = escalation.next_model(tiers)
    asked = frontier is not None and frontier.endpoint != "embedded"
    own = (
        desk(
            tiers,
            "frontier",
            task="escalate_change",
            thinking=thinking,
            fresh=fresh,
            retry_unusable=retry_unusable,
            budget_usd=budget_usd,
            spent=before,
            about=about(baseline, rounds),
        )
        if asked
        else None
    )
    return run(steps.escalate(baseline, plan, tested, desk=own, n=candidates)).after(before)


@task(frontier=True)
def review(
    baseline: Baseline,
    plan: ChangePlan,
    patch: Patch,
    tiers: Tiers = TIERS,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: list[str] | None = None,
) -> Patch:
    """Have a patch looked at once more; the review advises, the tests have decided.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned.
        patch: What `select` returned.
        tiers: The two models; the frontier one is asked.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the calls may cost in USD, those in `spent` included; what no longer
            fits is not asked, and the value says so. None is without end.
        spent: Keys of calls that earlier tasks of the run made.

    Returns:
        The patch with the review; unchanged where there is no diff or no model.
    """
    own = desk(
        tiers,
        "frontier",
        task="review",
        thinking=thinking,
        fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
        spent=[*patch.calls, *(spent or [])],
        about=about(baseline),
    )
    return run(candidates.review(baseline, plan, patch, desk=own))
