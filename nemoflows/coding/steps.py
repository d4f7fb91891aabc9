"""The steps of the change flow; workflows say what follows what, tasks where each runs."""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nemoflows import search as search_module
from nemoflows.agents import Desk
from nemoflows.asks import UNUSABLE, Ask, Done, Failed, refuse_too_many, unwrap
from nemoflows.calls import Part, Reply, Request
from nemoflows.changes import (
    Baseline,
    Candidate,
    ChangePlan,
    CodingTask,
    Proposals,
    Repository,
    Suspect,
    TestReport,
    Tier,
)
from nemoflows.coding import context, edits, prompts, replies
from nemoflows.coding.edits import is_test
from nemoflows.coding.examine import examine as examine_tree
from nemoflows.coding.replies import Changed
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.search import MAX_RUNS, judge, passes, search
from nemoflows.errors import BadInput
from nemoflows.journal.stores import open_store
from nemoflows.llm import together
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from nemoflows.types import ModelRef, Passage

MAX_ISSUE_CHARACTERS = 20_000
FOUND_SCORE = 0.3
"""Suspicion of the first line that the issue's words find, below all that tests ran.

Source: chosen by reading, not calibrated.
"""
K_PASSAGES = 8
CLOSEST = 2
"""Failed candidates that a repair round corrects, the closest to passing."""


def snapshot(repo: str, *, root: str) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Raises:
        BadInput: The folder is missing, empty or too large.
    """
    folder = Path(repo).expanduser()
    tree, left_out = trees.read(folder)
    return keep(tree, name=folder.resolve().name, root=root, left_out=left_out)


def keep(tree: Tree, *, name: str, root: str, left_out: Sequence[str] = ()) -> Repository:
    """Keep a tree below `root`, once."""
    store, archive = open_store(root), f"trees/{tree.hash}.tar"
    if store.read(archive) is None:
        store.write(archive, tree.archive())
    return Repository(
        uri=f"{root.rstrip('/')}/{archive}",
        name=name,
        tree=tree.hash,
        n_files=len(tree.files),
        left_out=[each.encode("utf-8", "replace").decode() for each in left_out[:100]],
    )


def opened(repository: Repository) -> Tree:
    """Return a snapshot's tree.

    Raises:
        BadInput: The archive is gone, or not what was kept.
    """
    root, _, name = repository.uri.rpartition("/trees/")
    data = open_store(root).read(f"trees/{name}")
    if data is None:
        raise BadInput(f"The snapshot {repository.uri} is gone; take it again.")
    try:
        tree = trees.from_archive(data)
    except tarfile.TarError:
        tree = Tree({})
    if tree.hash != repository.tree:
        raise BadInput(
            f"The snapshot {repository.uri} is damaged: its files are not those that were kept. "
            "Remove it and take it again."
        )
    return tree


async def examine(task: CodingTask, *, runs: TestRuns, index_root: str) -> Baseline:
    """Run the tests before any change, and find out where the fault may be.

    Raises:
        BadInput: The issue is empty or too long, or the tests cannot be run.
    """
    if not task.issue.strip() or len(task.issue) > MAX_ISSUE_CHARACTERS:
        raise BadInput(
            f"The issue has {len(task.issue):,} characters; it needs 1 to "
            f"{MAX_ISSUE_CHARACTERS:,}. Nothing was run."
        )
    tree = opened(task.repository)
    baseline = await examine_tree(task, tree, runs)
    passages = await asyncio.to_thread(_search, task.issue, tree, index_root)
    known = {(s.path, s.line) for s in baseline.suspects}
    more = [s for s in _of_passages(passages, tree) if (s.path, s.line) not in known]
    return baseline.model_copy(update={"suspects": [*baseline.suspects, *more]})


def _search(issue: str, tree: Tree, index_root: str) -> list[Passage]:
    with tempfile.TemporaryDirectory(prefix="nemoflows-code-") as folder:
        tree.write(Path(folder))
        index = search_module.build_index(folder, index_root)
    return search_module.open_index(index).search(issue, K_PASSAGES)


def _of_passages(passages: Sequence[Passage], tree: Tree) -> list[Suspect]:
    found = []
    for rank, passage in enumerate(passages):
        text = tree.text(passage.document)
        if text is None or is_test(passage.document):
            continue
        first = text.count("\n", 0, passage.start) + 1
        score = round(FOUND_SCORE / (1 + rank), 4)
        why = f"number {rank + 1} of what the issue's words find"
        n_lines = text.count("\n", passage.start, passage.end) + 1
        found += [
            Suspect(path=passage.document, line=first + n, score=score, why=why)
            for n in range(n_lines)
        ]
    return found


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
    done = unwrap(await desk.ask(request, lambda reply, _: replies.read_plan(reply, tree)))
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

    Raises:
        BadInput: `n` is below 1.
        EndpointDown: Most calls were not answered, each for a passing reason.
    """
    if n < 1:
        raise BadInput(f"candidates={n}: at least 1 must be proposed. No call was made.")
    if desk.model.endpoint == "embedded" or not baseline.target:
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
    refuse_too_many([f for f in failed if f.reason not in UNUSABLE], len(asks), 0.5)
    found: dict[str, Candidate] = {}
    for done in results:
        if isinstance(done, Done):
            _add(found, done, base, tier, number)
    return Proposals(
        candidates=list(found.values()),
        rejected=[f"{f.reason}: {f.detail}" for f in failed],
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


def candidate(base: Tree, tree: Tree, *, tier: Tier, why: str = "", number: int = 0) -> Candidate:
    """Return a changed tree as a candidate."""
    return Candidate(
        edits=edits.between(base, tree),
        tree=tree.hash,
        tier=tier,
        why=why,
        round=number,
        n_changed=trees.n_changed(trees.diff(base, tree)),
    )


def changed(base: Tree, candidate: Candidate) -> Tree:
    """Return the tree of a candidate.

    Raises:
        BadInput: Its edits do not fit this repository.
    """
    tree = edits.again(base, candidate.edits)
    if tree is None or tree.hash != candidate.tree:
        raise BadInput("A candidate's edits do not fit the snapshot that it was made for.")
    return tree


async def run_tests(
    baseline: Baseline, candidates: Sequence[Candidate], *, runs: TestRuns
) -> list[Candidate]:
    """Judge candidates, as many at once as there are cores; one run per distinct tree."""
    if not candidates:
        return []
    base = opened(baseline.task.repository)
    judged = [_judged(baseline, base, each, runs) for each in candidates]
    reports = await together(judged)
    return [
        each.model_copy(update={"report": report})
        for each, report in zip(candidates, reports, strict=True)
    ]


async def _judged(
    baseline: Baseline, base: Tree, candidate: Candidate, runs: TestRuns
) -> TestReport:
    """Return a candidate's report; a search brings its own."""
    if candidate.report is not None:
        return candidate.report
    return await judge(baseline, base, changed(base, candidate), runs)


async def search_repair(
    baseline: Baseline, *, runs: TestRuns, max_runs: int = MAX_RUNS, at_once: int = 1
) -> Proposals:
    """Repair by search, without a model; what comes back is tested.

    Args:
        max_runs: Test runs that it may take; 0 for none.
    """
    if not baseline.target or max_runs < 1:
        return Proposals()
    base = opened(baseline.task.repository)
    found = await search(baseline, base, runs, max_runs=max_runs, at_once=at_once)
    if found.tree is None:
        return Proposals(n_runs=found.n_runs)
    made = candidate(base, found.tree, tier="embedded", why=f"found in {found.n_runs} test runs")
    tested = made.model_copy(update={"report": found.report})
    return Proposals(candidates=[tested], n_runs=found.n_runs)


def solved(baseline: Baseline, tested: Sequence[Candidate]) -> bool:
    """Return whether a candidate passes."""
    return any(each.report is not None and passes(each.report, baseline) for each in tested)


def closest(baseline: Baseline, tested: Sequence[Candidate]) -> list[Candidate]:
    """Return the failed candidates that come closest to passing, at most `CLOSEST`.

    Of equals the latest: what was corrected already is not corrected again.
    """

    def distance(each: Candidate) -> tuple[bool, int, int, int]:
        report = each.report
        if report is None or report.ending != "finished":
            return True, 0, -each.round, each.n_changed
        bad = {r.test for r in report.not_passed if r.outcome in {"failed", "error"}}
        return False, len(bad), -each.round, each.n_changed

    failed = [e for e in tested if e.report is not None and not passes(e.report, baseline)]
    return sorted(failed, key=distance)[:CLOSEST]
