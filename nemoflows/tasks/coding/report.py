"""The CPU task that writes a change's report and its diff."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flytekit.types.file import FlyteFile

from nemoflows.coding.advice import next_steps
from nemoflows.coding.types import Change
from nemoflows.errors import BadInput
from nemoflows.money.ledger import Ledger
from nemoflows.reporting import ReportNotes
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import in_pod, session
from nemoflows.tasks.report import folder, written
from nemoflows.types import Policy, printable


@task(deck=True)
def report_change(change: Change, policy: Policy = POLICY) -> FlyteFile:
    """Write a change's report: plan, candidates against tests, the diff, calls, cost.

    Beside it lies the diff as a file, which a local run names.

    Args:
        change: What `select` or `review` returned.
        policy: How models were asked, to be named.

    Returns:
        One HTML file without external resources; a local run prints its path.

    Raises:
        BadInput: The change has no patch yet.
    """
    if change.patch.status == "open":
        raise BadInput("The change has no patch yet: `select` makes it. Nothing was written.")
    tiers = {"efficient": str(policy.efficient), "frontier": str(policy.frontier)}
    notes = ReportNotes(
        change=change, tiers=tiers, budget_usd=policy.budget_usd, call_keys=change.patch.calls
    )
    name = hashlib.sha256(notes.model_dump_json().encode("utf-8", "replace")).hexdigest()[:16]
    path = folder(session()) / f"{name}.html"
    shown = written(notes, path, deck="change")
    if in_pod():
        return FlyteFile(str(path))
    _tell(change, shown.ledger, path)
    return FlyteFile(str(path), remote_path=False)


def _tell(change: Change, ledger: Ledger, path: Path) -> None:
    """Print how a local run ended, and write the diff beside the report."""
    patch = change.patch
    print(f"\n{patch}\n{ledger}")
    for step in next_steps(change):
        print(f"next: {printable(step)}")
    if patch.diff:
        path.with_suffix(".diff").write_text(patch.diff, encoding="utf-8", newline="")
        print(f"patch: {path.with_suffix('.diff')}")
    print(f"report: {path}\n")
