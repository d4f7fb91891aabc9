"""The CPU task that writes a run's report."""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

import flytekit
from flytekit.types.file import FlyteFile

from nemoflows.errors import NemoflowsError, printable
from nemoflows.rag.types import Answer
from nemoflows.reporting import ReportData, ReportNotes, assemble, framed, render, write
from nemoflows.reporting.question import answer_notes
from nemoflows.settings import reports_folder
from nemoflows.tasks.audit import shadowed
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import flush, in_pod, session
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
    if not in_pod():
        print(f"\n{printable(answer.question)}\n\n{answer}\n", flush=True)
    sample = shadowed(answer.calls, policy)
    notes = answer_notes(answer, index=index, policy=policy, shadow=sample)
    data = noted(notes)
    if not in_pod():
        print(data.ledger)
    return page(data, _name(answer, index, policy), deck="answer")


def noted(notes: ReportNotes) -> ReportData:
    """Note what a run's report shows, and return what is in it."""
    llm, settings = session().llm, session().settings
    notes = notes.model_copy(update={"at_s": time.time()})
    llm.journal.note_story(notes.model_dump_json())
    flush()
    return assemble(notes, llm.history, settings)


def page(data: ReportData, name: str, *, deck: str) -> FlyteFile:
    """Write a report whole, or say why there is none: what it shows was paid for and stands.

    Flyte takes no file that is not there: an empty one stands for a report that is not.
    """
    html = render(data)
    flytekit.Deck(deck, framed(html))
    path = folder() / f"{name}.html"
    if not keep(path, html, "report"):
        path = Path(tempfile.mkstemp(prefix="nemoflows-no-report-", suffix=".html")[1])
    if in_pod():
        return FlyteFile(str(path))
    if data.durable:
        print(f"run: {data.run} (nemoflows report {data.run} shows its report again)")
    return FlyteFile(str(path), remote_path=False)


def keep(path: Path, text: str, word: str) -> bool:
    """Write a file, whole or not at all, and say where it lies or why it does not."""
    try:
        write(text, path)
    except NemoflowsError as error:
        print(f"{word}: not written. {error.message}")
        return False
    if not in_pod():
        print(f"{word}: {path}")
    return True


def folder() -> Path:
    """Return where reports are written."""
    if in_pod():
        return Path(flytekit.current_context().working_directory)
    return reports_folder(session().settings)


def _name(answer: Answer, index: Index, policy: Policy) -> str:
    words = (answer.model_dump_json(), index.corpus_hash, str(policy))
    content = "\n".join(words).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:16]
