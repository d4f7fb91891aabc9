"""The CPU task that writes a change's page and its diff."""

from __future__ import annotations

import hashlib
from pathlib import Path

import flytekit
from flytekit.types.file import FlyteFile

from nemoflows import coding_page, page, reports
from nemoflows.coding.advice import next_steps
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Patch, Proposals
from nemoflows.llm.client import Door
from nemoflows.money import ledger
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import in_pod, session
from nemoflows.tasks.report import folder
from nemoflows.types import Tiers, printable


@task(deck=True)
def report_change(
    baseline: Baseline,
    plan: ChangePlan,
    rounds: list[list[Candidate]],
    proposals: list[Proposals],
    patch: Patch,
    tiers: Tiers = TIERS,
) -> FlyteFile:
    """Write a change's page: plan, candidates against tests, the diff, calls, cost.

    Beside it lies the diff as a file, which a local run names.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned.
        rounds: What `run_tests` returned, round by round.
        proposals: What was proposed, and what was rejected.
        patch: What `select` or `review` returned.
        tiers: The two models, to be named.

    Returns:
        One HTML file without external resources; a local run prints its path.
    """
    shown = _shown(baseline, plan, rounds, proposals, patch, tiers, session().door)
    html = coding_page.render(shown)
    name = hashlib.sha256(html.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    path = folder(session()) / f"{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    flytekit.Deck("change", page.framed(html))
    if in_pod():
        return FlyteFile(str(path))
    _tell(shown, path)
    return FlyteFile(str(path), remote_path=False)


def _shown(
    baseline: Baseline,
    plan: ChangePlan,
    rounds: list[list[Candidate]],
    proposals: list[Proposals],
    patch: Patch,
    tiers: Tiers,
    door: Door,
) -> coding_page.ChangePage:
    calls, uncertain = door.calls(patch.calls), door.uncertain()
    n_search_runs = sum(each.n_runs for each in proposals)
    return coding_page.ChangePage(
        baseline=baseline,
        plan=plan,
        rounds=rounds,
        rejected=[why for each in proposals for why in each.rejected],
        n_search_runs=n_search_runs,
        patch=patch,
        next_steps=next_steps(baseline, patch, n_search_runs=n_search_runs),
        calls=calls,
        ledger=ledger.fold(
            calls, n_unrecorded=len(patch.calls) - len(calls), n_uncertain=len(uncertain)
        ),
        tiers={"efficient": str(tiers.efficient), "frontier": str(tiers.frontier)},
        uncertain=[reports.told(attempt) for attempt in uncertain],
        durable=door.journal.durable,
    )


def _tell(shown: coding_page.ChangePage, path: Path) -> None:
    """Print how a local run ended, and write the diff beside the page."""
    print(f"\n{shown.patch}\n{shown.ledger}")
    for step in shown.next_steps:
        print(f"next: {printable(step)}")
    if shown.patch.diff:
        path.with_suffix(".diff").write_text(shown.patch.diff, encoding="utf-8", newline="")
        print(f"patch: {path.with_suffix('.diff')}")
    print(f"page: {path}\n")
