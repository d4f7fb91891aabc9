"""The steps of the change flow that ask a model; workflows say what follows what, tasks where."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.calls import Part, Reply, Request
from nemoflows.coding import context, functions, prompts, replies
from nemoflows.coding.candidates import candidate, changed, closest, solved, with_bill
from nemoflows.coding.replies import Changed
from nemoflows.coding.snapshots import opened
from nemoflows.coding.types import Baseline, Candidate, Change, ChangePlan, Review
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.concurrency import together
from nemoflows.llm.results import (
    OVER_BUDGET,
    UNUSABLE,
    CallSpec,
    Failure,
    Success,
    refuse_too_many,
    unwrap,
)
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from nemoflows.types import ModelRef, Tier


async def plan_change(
    baseline: Baseline, *, client: BoundClient, others: Sequence[ModelRef] = ()
) -> Change:
    """Say what should be changed; without a model, name the most suspicious lines.

    Args:
        others: Models that later steps will ask: checked before the first call of the run.
    """
    change = Change(baseline=baseline)
    if not baseline.target:
        nothing = ChangePlan(summary="No test fails: there is nothing to change.")
        return change.after(plan=nothing)
    if client.model.is_builtin:
        await client.llm.preflight(*others)
        return change.after(plan=_plan_by_suspicion(baseline))
    tree = opened(baseline.task.repository)
    request = prompts.plan_change(context.parts(change, tree))
    if not client.llm.is_recorded(client.ready(request)):
        await client.llm.preflight(client.model, *others)
    result = await client.ask(request, lambda reply, _: replies.read_plan(reply, tree))
    if isinstance(result, Failure) and result.reason == OVER_BUDGET:
        return change.after(result.calls, result.detail, plan=_plan_by_suspicion(baseline))
    done = unwrap(result)
    return change.after(done.calls, plan=done.value)


def _plan_by_suspicion(baseline: Baseline) -> ChangePlan:
    files = list(dict.fromkeys(s.path for s in baseline.suspects))[: context.MAX_FILES]
    steps = [f"{s.path}:{s.line}: {s.why}" for s in baseline.suspects[:5]]
    summary = "The most suspicious lines, from the tests."
    return ChangePlan(summary=summary, files=files, steps=steps)


async def propose(
    change: Change, *, client: BoundClient, n: int, tier: Tier = "efficient"
) -> Change:
    """Ask for `n` changes at once; those that come to the same tree are one candidate.

    What no longer fits the budget is not asked, and the change says so.

    Raises:
        EndpointDown: Most calls were not answered, each for a passing reason.
    """
    baseline = change.baseline
    if n < 1 or client.model.is_builtin or not baseline.target:
        return change
    tree = opened(baseline.task.repository)
    asks = proposals(change, tree, client, n)
    return await _with_candidates(change, asks, tree, client, tier, number=0)


def proposals(change: Change, tree: Tree, client: BoundClient, n: int) -> list[CallSpec[Changed]]:
    """Return what is asked for `n` changes; each but the first looks at another place first."""
    shown, one_function = context.parts(change, tree), functions.is_one(tree)
    hints = [f"{s.path}:{s.line}" for s in change.baseline.suspects if s.score >= 0.5]
    requests = [
        prompts.propose(shown, number=k, hint=_hint(hints, k), one_function=one_function)
        for k in range(n)
    ]
    return [_ask(request, tree, change, client) for request in requests]


def _hint(hints: Sequence[str], number: int) -> str:
    """Return where one proposal looks first: the first one is free, the others spread out."""
    return hints[(number - 1) % len(hints)] if number and hints else ""


async def repair(
    change: Change, *, client: BoundClient, n: int, number: int, tier: Tier = "efficient"
) -> Change:
    """Ask for corrections of the candidates that came closest, with what the tests said.

    Nothing is asked where a candidate passes.

    Args:
        n: Corrections to ask for.
        number: Of the round, from 1.
    """
    failed = closest(change)
    if client.model.is_builtin or not failed or solved(change):
        return change
    base, first = opened(change.baseline.task.repository), (number - 1) * n
    asks = [
        _repair_ask(change, failed[k % len(failed)], base, client, number=first + k)
        for k in range(n)
    ]
    return await _with_candidates(change, asks, base, client, tier, number=number)


async def escalate(change: Change, *, client: BoundClient, n: int) -> Change:
    """Ask the frontier, only where no candidate passes.

    Args:
        n: Changes to ask for; 0 for none.
    """
    if n < 1 or not change.baseline.target or solved(change):
        return change
    if closest(change):
        number = 1 + max(each.round for each in change.candidates)
        return await repair(change, client=client, n=n, number=number, tier="frontier")
    return await propose(change, client=client, n=n, tier="frontier")


def _repair_ask(
    change: Change, failed: Candidate, base: Tree, client: BoundClient, *, number: int
) -> CallSpec[Changed]:
    tree, baseline = changed(base, failed), change.baseline
    tried = [Part(kind="change", text=trees.diff(base, tree))]
    if failed.report:
        tried.append(context.report_part(failed.report, baseline.target))
    shown, is_one = context.parts(change, tree), functions.is_one(tree)
    request = prompts.repair(shown, tried, number=number, one_function=is_one)
    return _ask(request, tree, change, client)


def _ask(request: Request, tree: Tree, change: Change, client: BoundClient) -> CallSpec[Changed]:
    shown = context.shown_lines(tree, change.baseline, change.plan)

    def check(reply: Reply, _: bool) -> Changed:
        return replies.read_edits(reply, tree, change.baseline, shown)

    return client.spec(request, check)


async def _with_candidates(
    change: Change, asks: Sequence[CallSpec[Changed]], base: Tree, client: BoundClient, tier: Tier,
    *, number: int,
) -> Change:  # fmt: skip
    results = await together([client.llm.complete(ask) for ask in asks])
    failed = [result for result in results if isinstance(result, Failure)]
    refuse_too_many([f for f in failed if f.reason not in {*UNUSABLE, OVER_BUDGET}], len(asks), 0.5)
    found: dict[str, Candidate] = {}
    for done in results:
        if isinstance(done, Success):
            _add(found, done, base, tier, number)
    rejected = [f"{f.reason}: {f.detail}" for f in failed if f.reason != OVER_BUDGET]
    return change.after(
        [key for result in results for key in result.calls],
        next((f.detail for f in failed if f.reason == OVER_BUDGET), ""),
        candidates=[*change.candidates, *found.values()],
        rejected=[*change.rejected, *rejected],
    )


def _add(
    found: dict[str, Candidate], done: Success[Changed], base: Tree, tier: Tier, number: int
) -> None:
    tree = done.value.tree
    if tree.hash == base.hash:
        return
    same = found.get(tree.hash)
    made = same or candidate(base, tree, tier=tier, why=done.value.why, number=number)
    update = {"n_alike": same.n_alike + 1 if same else 1, "calls": [*made.calls, *done.calls]}
    found[tree.hash] = made.model_copy(update=update)


async def review(change: Change, *, client: BoundClient) -> Change:
    """Have the patch looked at once more; the review advises and changes nothing.

    One that cannot be used leaves the patch as it is: the tests have decided already.
    """
    if not change.patch.diff or client.model.is_builtin:
        return change
    shown = context.parts(change, opened(change.baseline.task.repository))
    request = prompts.review(shown, change.patch.diff)
    result = await client.ask(request, lambda reply, _: replies.read_review(reply))
    told, budget_note = Review(), ""
    if isinstance(result, Success):
        told = result.value
    elif result.reason == OVER_BUDGET:
        budget_note = result.detail
    else:
        told = Review(comments=[f"The review failed: {result.reason}."])
    patch = change.patch.model_copy(update={"review": told})
    return with_bill(change.after(result.calls, budget_note), patch, client.llm)
