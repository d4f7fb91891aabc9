"""The desk that a task's step works at: door, model, budget, and how to ask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from nemoflows.coding.types import Baseline
from nemoflows.errors import BadInput
from nemoflows.llm.bound import Desk
from nemoflows.money.budgets import Account
from nemoflows.tasks.flyte.decorator import ready
from nemoflows.types import ThinkingPolicy, Tiers


def about(baseline: Baseline, rounds: Sequence[object] = ()) -> list[str]:
    """Return what tells a coding task's work from its other work in the run."""
    return [baseline.task.repository.tree, baseline.task.issue, str(len(rounds))]


def desk(
    tiers: Tiers,
    tier: Literal["efficient", "frontier"],
    *,
    task: str,
    thinking: ThinkingPolicy,
    fresh: str,
    retry_unusable: int = 0,
    budget_usd: float | None = None,
    spent: Sequence[str] | None = None,
    about: Sequence[str] = (),
) -> Desk:
    """Return the desk of a task, once its model is known to fit.

    Args:
        tier: The tier that is asked.
        task: The task's name.
        budget_usd: Most that the work may cost; None is without end.
        spent: Keys of calls of earlier steps, which count too.
        about: What tells this work from the same task's other work in the run.

    Raises:
        BadInput: The budget is negative, or nothing would remember what was spent of it.
        BadModel: The endpoint is unknown, has no price under a budget, or the model cannot follow
            an explicit wish.
        NoGpu: The model runs in process and the task, or this machine, has no GPU.
    """
    model = tiers.efficient if tier == "efficient" else tiers.frontier
    current = ready(
        model,
        task_name=task,
        efficient=tier == "efficient",
        thinking=thinking,
        budget_usd=budget_usd,
    )
    if budget_usd is not None and current.forgets:
        raise BadInput(
            f"The budget of ${budget_usd:g} needs a journal: in a pod, what was spent before is "
            "read there. Set NEMOFLOWS_JOURNAL to an object store; no call was made."
        )
    scope = hashlib.sha256("\0".join((task, fresh, *about)).encode()).hexdigest()[:16]
    budget = current.door.memory.open_budget(budget_usd, scope=scope, spent=spent or [])
    return Desk(
        door=current.door,
        model=model,
        salt=fresh,
        thinking=thinking,
        retry_unusable=retry_unusable,
        account=Account(task=task, tier=tier, budget=budget, scope=scope),
    )
