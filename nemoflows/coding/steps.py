"""The steps of the change flow that ask a model; workflows say what follows what, tasks where."""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.calls import Part, Reply, Request
from nemoflows.coding import context, prompts, replies
from nemoflows.coding.candidates import candidate, changed, closest, solved
from nemoflows.coding.replies import Changed
from nemoflows.coding.snapshots import opened
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Proposals, Tier
from nemoflows.llm.bound import Desk
from nemoflows.llm.concurrency import together
from nemoflows.llm.results import OVER, UNUSABLE, Ask, Done, Failed, refuse_too_many, unwrap
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from nemoflows.types import ModelRef


async def plan_change(
    baseline: Baseline, *, desk: Desk, others: Sequence[ModelRef] = ()
) -> ChangePlan:
    """Say what should be changed; without a model, name the most suspicious lines.

    Args:
        others: Models that later steps will ask: checked before the first call of the run.
    """
    if not baseline.target:
        return ChangePlan(summary="No test fails: there is nothing to change.")
    if desk.model.endpoint == "embedded":
        if others:
            await desk.door.preflight(*others)
        return _plan_by_suspicion(baseline)
    tree = opened(baseline.task.repository)
    shown = context.parts(baseline, tree, ChangePlan())
    request = prompts.plan_change(shown, model=desk.model, salt=desk.salt)
    if not desk.door.is_recorded(desk.ready(request)):
        await desk.door.preflight(desk.model, *others)
    result = await desk.ask(request, lambda reply, _: replies.read_plan(reply, tree))
    if isinstance(result, Failed) and result.reason == OVER:
        told = {"stopped": result.detail, "calls": result.calls}
        return _plan_by_suspicion(baseline).model_copy(update=told)
    done = unwrap(result)
    return done.value.model_copy(update={"calls": done.calls})


def _plan_by_suspicion(baseline: Baseline) -> ChangePlan:
    files = list(dict.fromkeys(s.path for s in baseline.suspects))[: context.MAX_FILES]
    steps = [f"{s.path}:{s.line}: {s.why}" for s in baseline.suspects[:5]]
    return ChangePlan(
        summary="The most suspicious lines, from the tests.", files=files, steps=steps
    )


async def propose(
    baseline: Baseline, plan: ChangePlan, *, desk: Desk, n: int, tier: Tier = "efficient"
) -> Proposals:
    """Ask for `n` changes at once; those that come to the same tree are one candidate.

    What no longer fits the budget is not asked, and the step says so.

    Args:
        n: Changes to ask for; 0 for none.

    Raises:
        EndpointDown: Most calls were not answered, each for a passing reason.
    """
    if n < 1 or desk.model.endpoint == "embedded" or not baseline.target:
        return Proposals()
    tree = opened(baseline.task.repository)
    shown = context.parts(baseline, tree, plan)
    hints = [f"{s.path}:{s.line}" for s in baseline.suspects if s.score >= 0.5]
    asks = [
        _ask(
            prompts.propose(
                shown, number=number, hint=_hint(hints, number), model=desk.model, salt=desk.salt
            ),
            tree, baseline, desk,
        )
        for number in range(n)
    ]  # fmt: skip
    return await _proposals(asks, tree, desk, tier, number=0)


def _hint(hints: Sequence[str], number: int) -> str:
    """Return where one proposal looks first: the first one is free, the others spread out."""
    return hints[(number - 1) % len(hints)] if number and hints else ""


async def repair(
    baseline: Baseline,
    plan: ChangePlan,
    tested: Sequence[Candidate],
    *,
    desk: Desk,
    n: int,
    number: int,
    tier: Tier = "efficient",
) -> Proposals:
    """Ask for corrections of the candidates that came closest, with what the tests said.

    Args:
        tested: Candidates with reports; nothing is asked where one of them passes.
        n: Corrections to ask for.
        number: Of the round, from 1.
    """
    failed = closest(baseline, tested)
    if desk.model.endpoint == "embedded" or not failed or solved(baseline, tested):
        return Proposals()
    base = opened(baseline.task.repository)
    asks = [
        _repair_ask(
            baseline, plan, failed[k % len(failed)], base, desk, number=k + (number - 1) * n
        )
        for k in range(n)
    ]
    return await _proposals(asks, base, desk, tier, number=number)


async def escalate(
    baseline: Baseline, plan: ChangePlan, tested: Sequence[Candidate], *, desk: Desk | None, n: int
) -> Proposals:
    """Ask the frontier, only where no candidate passes.

    Args:
        desk: The frontier; None where it is the tier that failed already.
        n: Changes to ask for; 0 for none.
    """
    if desk is None or n < 1 or not baseline.target or solved(baseline, tested):
        return Proposals()
    if closest(baseline, tested):
        round_number = 1 + max(candidate.round for candidate in tested)
        return await repair(
            baseline, plan, tested, desk=desk, n=n, number=round_number, tier="frontier"
        )
    return await propose(baseline, plan, desk=desk, n=n, tier="frontier")


def _repair_ask(
    baseline: Baseline, plan: ChangePlan, failed: Candidate, base: Tree, desk: Desk, *, number: int
) -> Ask[Changed]:
    tree = changed(base, failed)
    tried = [
        Part(kind="change", text=trees.diff(base, tree)),
        *([context.report_part(failed.report, baseline.target)] if failed.report else []),
    ]
    request = prompts.repair(
        context.parts(baseline, tree, plan), tried, model=desk.model, salt=desk.salt, number=number
    )
    return _ask(request, tree, baseline, desk)


def _ask(request: Request, tree: Tree, baseline: Baseline, desk: Desk) -> Ask[Changed]:
    def check(reply: Reply, _: bool) -> Changed:
        return replies.read_edits(reply, tree, baseline)

    return desk.asking(request, check)


async def _proposals(
    asks: Sequence[Ask[Changed]], base: Tree, desk: Desk, tier: Tier, *, number: int
) -> Proposals:
    results = await together([desk.door.ask(ask) for ask in asks])
    failed = [result for result in results if isinstance(result, Failed)]
    refuse_too_many([f for f in failed if f.reason not in {*UNUSABLE, OVER}], len(asks), 0.5)
    found: dict[str, Candidate] = {}
    for done in results:
        if isinstance(done, Done):
            _add(found, done, base, tier, number)
    return Proposals(
        candidates=list(found.values()),
        rejected=[f"{f.reason}: {f.detail}" for f in failed if f.reason != OVER],
        stopped=next((f.detail for f in failed if f.reason == OVER), ""),
        calls=list(dict.fromkeys(key for result in results for key in result.calls)),
    )


def _add(
    found: dict[str, Candidate], done: Done[Changed], base: Tree, tier: Tier, number: int
) -> None:
    tree = done.value.tree
    if tree.hash == base.hash:
        return
    if same := found.get(tree.hash):
        update = {"n_alike": same.n_alike + 1, "calls": [*same.calls, *done.calls]}
        found[tree.hash] = same.model_copy(update=update)
        return
    found[tree.hash] = candidate(
        base, tree, tier=tier, why=done.value.why, number=number
    ).model_copy(update={"calls": done.calls})
