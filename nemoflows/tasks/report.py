"""The CPU task that writes a run's page."""

from __future__ import annotations

import hashlib
from pathlib import Path

import flytekit
from flytekit.types.file import FlyteFile

from nemoflows import page, rag, reports
from nemoflows.money.savings import ShadowSample
from nemoflows.rag import escalation
from nemoflows.settings import reports_folder
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import Session, flush, in_pod, session
from nemoflows.types import Answer, Finding, Index, ResearchPlan, Tiers


@task(deck=True)
def report(
    answer: Answer,
    index: Index,
    findings: list[Finding],
    escalated: list[Finding] | None = None,
    plan: ResearchPlan | None = None,
    tiers: Tiers = TIERS,
    spent: list[str] | None = None,
    shadow: ShadowSample | None = None,
    budget_usd: float | None = None,
) -> FlyteFile:
    """Write the run's report: answer, sources in context, findings, calls, what it saved.

    Args:
        answer: What `synthesise` returned.
        index: What `build_index` returned; quotes are shown in their context.
        findings: What `research` found.
        escalated: What `escalate` found.
        plan: What `plan_research` returned; its calls count too.
        tiers: The two models: what the saving is held against.
        spent: Keys of calls that `research` made; those that led to nothing are shown too.
        shadow: What `shadow` measured.
        budget_usd: The run's budget, to be shown.

    Returns:
        One HTML file without external resources; a local run prints its path.
    """
    current = session()
    story = rag.story(
        answer,
        escalation.merged(findings, escalated or []),
        plan=plan,
        index=index,
        tiers=tiers,
        spent=[*(spent or []), *(key for finding in escalated or [] for key in finding.calls)],
        shadow=shadow,
        budget_usd=budget_usd,
    )
    current.door.journal.note_story(story.model_dump_json())
    flush()
    shown = reports.complete(story, current.door.memory, current.settings)
    path = folder(current) / f"{_name(answer, index, tiers)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    html = page.render(shown)
    path.write_text(html, encoding="utf-8")
    flytekit.Deck("answer", page.framed(html))
    if not in_pod():
        print(f"\n{answer.question}\n\n{answer}\n\n{shown.ledger}\npage: {path}\n")
        return FlyteFile(str(path), remote_path=False)
    return FlyteFile(str(path))


def folder(current: Session) -> Path:
    """Return where pages are written."""
    if in_pod():
        return Path(flytekit.current_context().working_directory)
    return reports_folder(current.settings)


def _name(answer: Answer, index: Index, tiers: Tiers) -> str:
    models = (str(tiers.efficient), str(tiers.frontier))
    words = (answer.model_dump_json(), index.corpus_hash, *models)
    content = "\n".join(words).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:16]
