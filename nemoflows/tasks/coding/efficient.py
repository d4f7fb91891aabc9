"""Coding tasks of the efficient tier: on a GPU where its model runs in process.

They run no code of the repository: that is for the tasks with a sandbox.
"""

from __future__ import annotations

from nemoflows.coding import steps
from nemoflows.coding.types import Change
from nemoflows.tasks.client import client
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Policy


@task(efficient=True)
def propose(change: Change, candidates: int = 8, policy: Policy = POLICY) -> Change:
    """Propose changes, all at once on one engine; alike ones count once.

    Args:
        change: What `plan_change` returned.
        candidates: How many to ask for; 0 for none.
        policy: How models are asked; the efficient one is.

    Returns:
        The change with candidates that apply and compile, untested; none without a model.

    Raises:
        TooManyFailures: The calls of more than half were refused for good.
    """
    own = client(policy, "efficient", task="propose", spent=change.calls, about=about(change))
    return run(steps.propose(change, client=own, n=candidates)).after(n_rounds=1)


@task(efficient=True)
def repair(change: Change, candidates: int = 4, policy: Policy = POLICY) -> Change:
    """Correct the candidates that came closest, with what the tests said of them.

    Args:
        change: What `run_tests` returned; nothing is asked where a candidate passes.
        candidates: How many corrections to ask for; 0 for none.
        policy: How models are asked; the efficient one is.

    Returns:
        The change with corrections that apply and compile, untested.
    """
    own = client(policy, "efficient", task="repair", spent=change.calls, about=about(change))
    number = change.n_rounds
    asked = steps.repair(change, client=own, n=candidates, number=number)
    return run(asked).after(n_rounds=number + 1)


def about(change: Change) -> list[str]:
    """Return what tells a coding task's work from its other work in the run."""
    task = change.baseline.task
    return [task.repository.tree, task.issue, str(len(change.candidates))]
