"""The journal as a whole: what each run paid, what is in doubt, what is old."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nemoflows.errors import NemoflowsError
from nemoflows.journal.book import Journal
from nemoflows.journal.records import Record
from nemoflows.storage.store import Facts
from nemoflows.types import Value

log = logging.getLogger(__name__)


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
    """Return every run that made a call, the newest first; calls are read one by one."""
    found: dict[str, _Sum] = {}
    for call in journal.facts():
        found.setdefault(call.run, _Sum()).add(call)
    for name in journal.runs():  # a run may have announced attempts and recorded none
        found.setdefault("" if name == "run" else name, _Sum())
    told = [_run(journal, name, made) for name, made in found.items()]
    return sorted(told, key=lambda run: (run.first, run.run), reverse=True)


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


@dataclass(slots=True)
class _Sum:
    """What the records of one run come to."""

    first_s: float = math.inf
    n_calls: int = 0
    usd: float = 0.0
    n_unpriced: int = 0

    def add(self, call: Facts) -> None:
        self.first_s = min(self.first_s, call.started_s)
        self.n_calls += 1
        self.usd += call.usd or 0.0
        self.n_unpriced += call.usd is None


def _run(journal: Journal, name: str, made: _Sum) -> Run:
    try:
        times = [attempt.at_s for attempt in journal.in_doubt(name or "run")]
    except NemoflowsError as error:
        log.warning("Attempts of the run %r are passed over: %s", name, error.message)
        times = []
    first_s = min([made.first_s, *times])
    first = datetime.fromtimestamp(0.0 if first_s == math.inf else first_s, tz=UTC)
    return Run(
        run=name,
        first=first.strftime("%Y-%m-%d %H:%M:%S"),
        calls=made.n_calls,
        usd=made.usd,
        unpriced=made.n_unpriced,
        in_doubt=len(times),
    )
