"""A run's report data: what its steps noted, with what its journal holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from nemoflows.llm.history import CallHistory
from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Spent, fold, total
from nemoflows.money.savings import Savings, ShadowSample, compare, is_frontier
from nemoflows.reporting.change import superseded_proposals
from nemoflows.reporting.data import ReportData, ReportNotes
from nemoflows.settings import Settings
from nemoflows.types import Finding, Policy

N = TypeVar("N", bound=BaseModel)
_Keys = RootModel[list[str]]
UNREADABLE = (
    "Its notes cannot be read: the run {!r} was written by another version of nemoflows, or is "
    "damaged; these are its calls"
)


def assemble(notes: ReportNotes, memory: CallHistory, settings: Settings) -> ReportData:
    """Return what a run noted with its calls, what they cost and what that saved."""
    journal = memory.journal
    keys = list(dict.fromkeys(notes.call_keys))
    calls = sorted(memory.calls(keys), key=lambda call: call.started_s)
    shadow = [c for c in memory.calls(notes.shadow.calls) if c.key not in set(keys)]
    in_doubt = journal.in_doubt()
    gpus = _read(GpuUse, journal.gpu_notes())
    overhead_usd = sum(use.overhead_usd for use in gpus)
    policy = _policy(notes, calls, settings)
    noted = [key for each in _read(_Keys, journal.notes("superseded")) for key in each.root]
    ledger = fold(
        calls,
        shadow=shadow,
        n_unrecorded=len(keys) - len(calls),
        n_in_doubt=len(in_doubt),
        in_doubt_usd=total([attempt.reserved_usd for attempt in in_doubt]),
        overhead_usd=overhead_usd,
    )
    tiers = {"efficient": str(policy.efficient), "frontier": str(policy.frontier)}
    told = dict(notes) | {"tiers": tiers}
    return ReportData(
        **told,
        run=journal.run,
        calls=[*calls, *shadow],
        ledger=ledger,
        savings=_savings(notes, calls, policy, overhead_usd, noted, settings),
        gpus=gpus,
        in_doubt=in_doubt,
        durable=journal.durable,
    )


def notes_of(memory: CallHistory) -> ReportNotes:
    """Return what a run noted for its report; where it noted nothing, its calls alone.

    Several clients of a run write one story, the last one's: the others' calls are in receipts.
    """
    journal = memory.journal
    told, receipts = journal.story(), journal.receipts()
    samples = _read(ShadowSample, journal.notes("shadows"))
    notes = next(iter(_read(ReportNotes, [told])), None)
    if notes is None:
        shadow = sum(samples, ShadowSample())
        # A call that went on to the frontier may be drawn, too: then the run's own use counts.
        measuring = {("shadow", key) for key in shadow.calls}
        keys = [r.key for r in receipts if (r.task, r.key) not in measuring]
        title = UNREADABLE.format(journal.run) if told else ""
        return ReportNotes(call_keys=keys, shadow=shadow, title=title)
    keys = [*notes.call_keys, *(r.key for r in receipts if r.task != "shadow")]
    update = {"call_keys": list(dict.fromkeys(keys)), "shadow": _joined(notes.shadow, samples)}
    return notes.model_copy(update=update)


def _joined(shadow: ShadowSample, samples: Sequence[ShadowSample]) -> ShadowSample:
    """Return a story's sample with those of the run that it does not hold yet."""
    for sample in samples:
        if not set(sample.calls) <= set(shadow.calls):
            shadow += sample
    return shadow


def _policy(notes: ReportNotes, calls: Sequence[Spent], settings: Settings) -> Policy:
    """Return the two models: as noted, else as each tier's calls say, else as settings do."""
    usual = settings.default_policy()
    named = {"efficient": str(usual.efficient), "frontier": str(usual.frontier)}
    named |= notes.tiers or {call.tier: call.model for call in calls if call.tier in named}
    return Policy.model_validate(named)


def _read(kind: type[N], notes: Sequence[str]) -> list[N]:
    """Return what processes noted; a note that was half written tells nothing."""
    read = []
    for note in notes:
        with suppress(ValidationError):
            read.append(kind.model_validate_json(note))
    return read


def _savings(
    notes: ReportNotes,
    calls: Sequence[Spent],
    policy: Policy,
    overhead_usd: float,
    noted: Sequence[str],
    settings: Settings,
) -> Savings:
    again = {*notes.superseded, *noted, *superseded(notes.findings, calls, policy)}
    if notes.change:
        again |= superseded_proposals(notes.change.candidates, calls, policy)
    return compare(
        calls,
        policy,
        endpoint_of=settings.priced,
        superseded=again,
        shadow=notes.shadow,
        overhead_usd=overhead_usd,
    )


def superseded(findings: Sequence[Finding], calls: Sequence[Spent], policy: Policy) -> set[str]:
    """Return the keys of the efficient tier's calls about questions that the frontier answered."""
    answered = [f for f in findings if f.tier == "frontier" and f.not_found is None]
    keys = {key for finding in answered if not finding.budget_note for key in finding.calls}
    return {call.key for call in calls if call.key in keys and not is_frontier(call, policy)}
