"""The CPU task that writes a run's report."""

from __future__ import annotations

import hashlib
from pathlib import Path

import flytekit
from flytekit.types.file import FlyteFile

from nemoflows.rag.types import Answer
from nemoflows.reporting import ReportData, ReportNotes, assemble, framed, write
from nemoflows.reporting.question import answer_notes
from nemoflows.settings import reports_folder
from nemoflows.tasks.audit import shadowed
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import Session, flush, in_pod, session
from nemoflows.types import Index, Policy


@task(frontier=True, deck=True)
def report(answer: Answer, index: Index, policy: Policy = POLICY) -> FlyteFile:
    """Write the run's report: answer, sources in context, findings, calls, what it saved.

    Where the policy has a `shadow_share`, the frontier is first asked, too, that share of what the
    efficient tier answered.

    Args:
        answer: What `answer` or `synthesise` returned.
        index: What `build_index` returned; quotes are shown in their context.
        policy: How models were asked: what the saving is held against, and the budget.

    Returns:
        One HTML file without external resources; a local run prints its path.
    """
    current = session()
    sample = shadowed(answer.calls, policy)
    notes = answer_notes(answer, index=index, policy=policy, shadow=sample)
    path = folder(current) / f"{_name(answer, index, policy)}.html"
    shown = written(notes, path, deck="answer")
    if in_pod():
        return FlyteFile(str(path))
    print(f"\n{answer.question}\n\n{answer}\n\n{shown.ledger}\nreport: {path}\n")
    return FlyteFile(str(path), remote_path=False)


def written(notes: ReportNotes, path: Path, *, deck: str) -> ReportData:
    """Note what a run's report shows, write the report, and return what is in it."""
    llm, settings = session().llm, session().settings
    llm.journal.note_story(notes.model_dump_json())
    flush()
    data = assemble(notes, llm.history, settings)
    flytekit.Deck(deck, framed(write(data, path)))
    return data


def folder(current: Session) -> Path:
    """Return where reports are written."""
    if in_pod():
        return Path(flytekit.current_context().working_directory)
    return reports_folder(current.settings)


def _name(answer: Answer, index: Index, policy: Policy) -> str:
    words = (answer.model_dump_json(), index.corpus_hash, str(policy))
    content = "\n".join(words).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:16]
