"""A run's report, put together from the story that its steps told and what its journal holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError

from nemoflows import page
from nemoflows.errors import BadInput
from nemoflows.journal import Uncertain
from nemoflows.llm.history import Memory
from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Spent, fold
from nemoflows.money.savings import Savings, compare, is_frontier
from nemoflows.settings import Settings
from nemoflows.types import Finding, Tiers


def complete(story: page.Story, memory: Memory, settings: Settings) -> page.Page:
    """Return a story as a page, with the run's calls, their costs and what they saved."""
    journal = memory.journal
    keys = list(dict.fromkeys(story.call_keys))
    calls = sorted(memory.calls(keys), key=lambda call: call.started_s)
    shadow = [c for c in memory.calls(story.shadow.calls) if c.key not in set(keys)]
    uncertain = journal.uncertain()
    gpus = _gpus(journal.gpu_notes())
    ledger = fold(
        [*calls, *shadow],
        n_unrecorded=len(keys) - len(calls),
        n_uncertain=len(uncertain),
        uncertain_usd=_most(uncertain),
    )
    return page.Page(
        **dict(story),
        run=journal.run,
        calls=[*calls, *shadow],
        ledger=ledger,
        savings=_savings(story, calls, gpus, settings),
        gpus=gpus,
        uncertain=[told(attempt) for attempt in uncertain],
        durable=journal.durable,
    )


def of_run(memory: Memory) -> page.Story:
    """Return the story that a run told; where it has not come that far, its calls alone."""
    story = memory.journal.story()
    if story:
        try:
            return page.Story.model_validate_json(story)
        except ValidationError as error:
            run = memory.journal.run
            raise BadInput(
                f"What the run {run!r} told for its report cannot be read ({error.error_count()} "
                "fields): another version of nemoflows wrote it, or it is damaged. Its calls are "
                "in the journal all the same."
            ) from None
    return page.Story(call_keys=[line["key"] for line in memory.journal.receipts()])


def _gpus(notes: Sequence[str]) -> list[GpuUse]:
    """Return what GPUs did; a note that was half written tells nothing."""
    uses = []
    for note in notes:
        with suppress(ValidationError):
            uses.append(GpuUse.model_validate_json(note))
    return uses


def _savings(
    story: page.Story, calls: Sequence[Spent], gpus: Sequence[GpuUse], settings: Settings
) -> Savings:
    if not story.tiers:
        return Savings()
    tiers = Tiers.model_validate(story.tiers)
    return compare(
        calls,
        tiers,
        endpoint_of=settings.priced,
        superseded=superseded(story.findings, calls, tiers),
        shadow=story.shadow,
        overhead_usd=sum(use.overhead_usd for use in gpus),
    )


def superseded(findings: Sequence[Finding], calls: Sequence[Spent], tiers: Tiers) -> set[str]:
    """Return the keys of the efficient tier's calls about questions that the frontier answered."""
    answered = [f for f in findings if f.tier == "frontier" and f.not_found is None]
    keys = {key for finding in answered if not finding.stopped for key in finding.calls}
    return {call.key for call in calls if call.key in keys and not is_frontier(call, tiers)}


def _most(uncertain: Sequence[Uncertain]) -> float | None:
    prices = [attempt.reserved_usd for attempt in uncertain]
    return None if None in prices else sum(usd or 0.0 for usd in prices)


def told(attempt: Uncertain) -> str:
    """Return an attempt as a person reads it."""
    most = f", at most ${attempt.reserved_usd:.6f}" if attempt.reserved_usd else ""
    return f"{attempt.purpose} at {attempt.model}, attempt {attempt.number}: {attempt.why}{most}"
