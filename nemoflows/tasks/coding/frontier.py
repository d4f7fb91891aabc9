"""CPU coding tasks of the frontier tier: plan, go on where the efficient tier failed, review."""

from __future__ import annotations

from nemoflows.coding import steps
from nemoflows.coding.types import Baseline, Change
from nemoflows.tasks.client import client, ready
from nemoflows.tasks.coding.efficient import about
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Policy


@task(frontier=True)
def plan_change(baseline: Baseline, policy: Policy = POLICY) -> Change:
    """Say what should be changed, and in which files.

    Args:
        baseline: What `examine` returned.
        policy: How models are asked; the frontier one is.

    Returns:
        The change with its plan; without a model, with the most suspicious lines.

    Raises:
        BadModel: A tier's endpoint, model or key is missing; checked before the first call.
    """
    current = ready(policy.efficient, policy, task="propose", efficient=True)
    asked = not policy.efficient.is_builtin
    there = asked and not current.settings.runs_in_task(policy.efficient)
    known = about(Change(baseline=baseline))
    own = client(policy, "frontier", task="plan_change", about=known)
    others = [policy.efficient] if there else []
    return run(steps.plan_change(baseline, client=own, others=others))


@task(frontier=True)
def escalate_change(change: Change, candidates: int = 1, policy: Policy = POLICY) -> Change:
    """Ask the frontier tier, only where no candidate passes.

    Args:
        change: What `run_tests` returned; nothing is asked where a candidate passes.
        candidates: How many changes to ask for.
        policy: How models are asked; where both are the same nothing is asked twice.

    Returns:
        The change with the frontier's candidates, untested.

    Raises:
        EndpointDown: The frontier's endpoint does not answer.
    """
    frontier = policy.next_model
    if frontier is None or frontier.is_builtin:
        return change
    own = client(
        policy,
        "frontier",
        task="escalate_change",
        spent=change.calls,
        about=about(change),
        escalated=True,
    )
    return run(steps.escalate(change, client=own, n=candidates))


@task(frontier=True)
def review(change: Change, policy: Policy = POLICY) -> Change:
    """Have a patch looked at once more; the review advises, the tests have decided.

    Args:
        change: What `select` returned.
        policy: How models are asked; the frontier one is.

    Returns:
        The change, its patch with the review; unchanged where there is no diff or no model.
    """
    own = client(policy, "frontier", task="review", spent=change.calls, about=about(change))
    return run(steps.review(change, client=own))
