"""The CPU task that writes a change's report and its diff."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from flytekit.types.file import FlyteFile

from nemoflows.coding.advice import apart, next_steps
from nemoflows.coding.types import Change, Effort
from nemoflows.errors import BadInput, one_line
from nemoflows.money.ledger import Ledger
from nemoflows.reporting import ReportNotes
from nemoflows.tasks.coding.solve import EFFORT
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import in_pod
from nemoflows.tasks.report import folder, keep, noted, page
from nemoflows.types import Policy


@task(deck=True)
def report_change(change: Change, policy: Policy = POLICY, effort: Effort = EFFORT) -> FlyteFile:
    """Write a change's report: plan, candidates against tests, the diff, calls, cost.

    Beside it lies the diff as a file, which a local run names.

    Args:
        change: What `select` or `review` returned.
        policy: How models were asked, to be named.
        effort: What was tried; its `unverified` says whether to fail, after the report.

    Returns:
        One HTML file without external resources; a local run prints its path.

    Raises:
        BadInput: The change has no patch yet; or it is not verified, which is to fail.
    """
    if change.patch.status == "open":
        raise BadInput("The change has no patch yet: `select` makes it. Nothing was written.")
    tiers = {"efficient": str(policy.efficient), "frontier": str(policy.frontier)}
    notes = ReportNotes(
        change=change, tiers=tiers, budget_usd=policy.budget_usd, call_keys=change.patch.calls
    )
    name = hashlib.sha256(notes.model_dump_json().encode("utf-8", "replace")).hexdigest()[:16]
    if not in_pod():
        print(f"\n{change.patch}", flush=True)
    data = noted(notes)
    if not in_pod():
        _tell(change, data.ledger, folder() / f"{name}.diff")
    shown = page(data, name, deck="change")
    if effort.unverified == "fail" and change.patch.status != "verified":
        raise BadInput(f"unverified=fail: {change.patch.status}. The report shows why.")
    return shown


def _tell(change: Change, ledger: Ledger, path: Path) -> None:
    """Print how a local run ended, and write the diff beside the report."""
    print(ledger)
    for line in apart(change):
        print(one_line(line))
    for step in next_steps(change):
        print(f"next: {one_line(step)}")
    if change.patch.diff and keep(path, change.patch.diff, "patch"):
        own, diff = change.baseline.task.repository, shlex.quote(str(path))
        if own.origin:
            print(f"apply: git -C {shlex.quote(one_line(own.origin))} apply {diff}")
        elif own.source:
            at = f" at {own.commit}" if own.commit else ""
            print(f"apply: git apply {diff}, in a checkout of {one_line(own.source)}{at}")
