"""The change flow as tasks that go on as far as they must: in one pod, or with a GPU's beside it.

No pod starts to return nothing: what a task finds out decides which is started next, if any.
"""

from __future__ import annotations

from collections.abc import Callable

from nemoflows.coding.candidates import solved
from nemoflows.coding.types import Change, CodingTask, Effort
from nemoflows.tasks.coding.efficient import propose, repair
from nemoflows.tasks.coding.frontier import escalate_change, plan_change, review
from nemoflows.tasks.coding.sandbox import examine, run_tests, search_repair, select
from nemoflows.tasks.flyte.binding import Binding
from nemoflows.tasks.flyte.decorator import BINDING, CHOICES, POLICY, body_of, task
from nemoflows.types import Policy

EFFORT = Effort()


@task(frontier=True, repository=True)
def solve_here(task: CodingTask, effort: Effort = EFFORT, policy: Policy = POLICY) -> Change:
    """Solve a coding task in one pod, where no step of it needs a GPU of its own.

    Args:
        task: What `coding_task` or `function_task` returned.
        effort: How much is tried.
        policy: How models are asked.

    Returns:
        The change with its patch.
    """
    change = _begun(task, effort, policy)
    while n := n_to_ask(change, effort, policy):
        ask = body_of(repair if change.n_rounds else propose)
        change, _ = body_of(run_tests)(ask(change, n, policy))
    return _finished(change, effort, policy)


@task(frontier=True, dynamic=True, repository=True)
def solve_with_gpu(task: CodingTask, effort: Effort = EFFORT, policy: Policy = POLICY) -> Change:
    """Solve a coding task with a GPU that is only asked for where something is to be proposed.

    Args:
        task: What `coding_task` or `function_task` returned.
        effort: How much is tried.
        policy: How models are asked.

    Returns:
        The change with its patch.
    """
    return _gone_on(_begun(task, effort, policy), effort, policy)


@task(frontier=True, dynamic=True, repository=True)
def judge_and_go_on(change: Change, effort: Effort = EFFORT, policy: Policy = POLICY) -> Change:
    """Judge a change's candidates; where none passes, have them repaired, else finish it."""
    judged, _ = body_of(run_tests)(change)
    return _gone_on(judged, effort, policy)


def _gone_on(change: Change, effort: Effort, policy: Policy) -> Change:
    """Have a GPU's pod propose or repair, and another go on; finish it here where it is time."""
    n = n_to_ask(change, effort, policy)
    if not n:
        return _finished(change, effort, policy)
    ask = repair if change.n_rounds else propose
    asked = ask(change=change, candidates=n, policy=policy)
    return judge_and_go_on(change=asked, effort=effort, policy=policy)


@task(dynamic=True)
def solve_apart(task: CodingTask, effort: Effort = EFFORT, policy: Policy = POLICY) -> Change:
    """Solve a coding task with tests in pods of their own, which ask nobody anything.

    Args:
        task: What `coding_task` or `function_task` returned.
        effort: How much is tried.
        policy: How models are asked.

    Returns:
        The change with its patch.
    """
    change = plan_change(baseline=examine(task=task), policy=policy)
    if policy.efficient.is_builtin and effort.search_runs:
        change, _ = search_repair(change=change, max_runs=effort.search_runs)
    return go_on_apart(change=change, effort=effort, policy=policy)


@task(dynamic=True)
def go_on_apart(change: Change, effort: Effort = EFFORT, policy: Policy = POLICY) -> Change:
    """Go on with a change whose candidates are tested, each step in a pod of its own."""
    if n := n_to_ask(change, effort, policy):
        ask = repair if change.n_rounds else propose
        judged, _ = run_tests(change=ask(change=change, candidates=n, policy=policy))
        return go_on_apart(change=judged, effort=effort, policy=policy)
    if n := n_to_escalate(change, effort, policy):
        asked = escalate_change(change=change, candidates=n, policy=policy)
        change, _ = run_tests(change=asked)
    if searches_last(change, effort, policy):
        change, _ = search_repair(change=change, max_runs=effort.search_runs)
    chosen = select(change=change)
    is_reviewed = solved(change) and not policy.frontier.is_builtin
    return review(change=chosen, policy=policy) if is_reviewed else chosen


def solve_for(binding: Binding) -> Callable[..., Change]:
    """Return the task that is `solve` under a binding."""
    if binding.settings.hardware.pod.isolate_tests:
        return solve_apart
    return solve_here if binding.kind == "cpu" else solve_with_gpu


CHOICES["solve"] = solve_for
solve = solve_for(BINDING)


def n_to_ask(change: Change, effort: Effort, policy: Policy) -> int:
    """Return how many changes or corrections the efficient tier is asked for next; 0 for none."""
    if policy.efficient.is_builtin or not _is_open(change):
        return 0
    if change.n_rounds == 0:
        return effort.candidates
    return effort.repairs if change.n_rounds <= effort.rounds and change.candidates else 0


def n_to_escalate(change: Change, effort: Effort, policy: Policy) -> int:
    """Return how many changes the frontier is asked for where the efficient tier is done."""
    frontier = policy.next_model
    if frontier is None or frontier.is_builtin or not _is_open(change):
        return 0
    return effort.frontier_candidates


def searches_last(change: Change, effort: Effort, policy: Policy) -> bool:
    """Return whether what no model's candidate passes is searched for: that costs nothing."""
    return _is_open(change) and bool(effort.search_runs) and not policy.efficient.is_builtin


def _begun(task: CodingTask, effort: Effort, policy: Policy) -> Change:
    change = body_of(plan_change)(body_of(examine)(task), policy)
    if not policy.efficient.is_builtin:
        return change
    return body_of(search_repair)(change, effort.search_runs).change


def _finished(change: Change, effort: Effort, policy: Policy) -> Change:
    if n := n_to_escalate(change, effort, policy):
        change, _ = body_of(run_tests)(body_of(escalate_change)(change, n, policy))
    if searches_last(change, effort, policy):
        change, _ = body_of(search_repair)(change, effort.search_runs)
    return body_of(review)(body_of(select)(change), policy)


def _is_open(change: Change) -> bool:
    return bool(change.baseline.target) and not solved(change)
