"""The journal as a whole: what each run paid, what is in doubt, what is old."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nemoflows.journal.book import Journal
from nemoflows.journal.records import Record
from nemoflows.types import Value


class Run(Value):
    """What one run recorded."""

    run: str
    first: str
    """Time of its first call, UTC."""
    calls: int
    usd: float
    """What its priced calls cost."""
    unpriced: int
    """Calls whose price nobody knows."""
    in_doubt: int
    """Attempts that were cut off, perhaps billed."""


def runs(journal: Journal) -> list[Run]:
    """Return every run that made a call, the oldest first."""
    by_run: dict[str, list[Record]] = {}
    for record in journal.records():
        by_run.setdefault(record.run, []).append(record)
    for name in journal.runs():  # a run may have announced attempts and recorded none
        by_run.setdefault("" if name == "run" else name, [])
    found = [_run(journal, name, records) for name, records in by_run.items()]
    return sorted(found, key=lambda run: (run.first, run.run))


def old_records(journal: Journal, *, before_s: float) -> list[Record]:
    """Return the records that were written before a Unix time."""
    return [record for record in journal.records() if record.ended_s < before_s]


def row(record: Record) -> dict[str, Any]:
    """Return a call as one flat row, without what was asked and answered."""
    return {
        "key": record.key,
        "run": record.run,
        "purpose": record.purpose,
        "model": record.model,
        "outcome": record.outcome.kind,
        "reason": getattr(record.outcome, "reason", ""),
        "usd": record.usd,
        **record.usage.model_dump(),
        "started_s": record.started_s,
        "ended_s": record.ended_s,
        "attempts": len(record.attempts),
        "served_by": record.outcome.reply.model,
        "request_id": record.outcome.reply.request_id,
    }


def _run(journal: Journal, name: str, records: list[Record]) -> Run:
    cut = journal.in_doubt(name or "run")
    times = [*(record.started_s for record in records), *(attempt.at_s for attempt in cut)]
    first = datetime.fromtimestamp(min(times, default=0.0), tz=UTC)
    return Run(
        run=name,
        first=first.strftime("%Y-%m-%d %H:%M:%S"),
        calls=len(records),
        usd=sum(record.usd or 0.0 for record in records),
        unpriced=sum(record.usd is None for record in records),
        in_doubt=len(cut),
    )
