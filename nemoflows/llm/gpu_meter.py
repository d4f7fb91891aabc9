"""GPU time where it is what is paid for: each call's share of it, and what the GPUs did in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from nemoflows.calls import Outcome, Request
from nemoflows.engines.base import Engine, OnAttempt
from nemoflows.journal import Journal
from nemoflows.models import Endpoint
from nemoflows.money.gpu_time import GpuClock, process_age_s
from nemoflows.settings import Settings
from nemoflows.types import ModelRef


@dataclass(frozen=True, slots=True)
class _Meter:
    clock: GpuClock
    endpoint: Endpoint
    before_s: float
    """How old this process was at the model's first use."""


class GpuMeters:
    """The meters of one process, one per model; belongs to one event loop."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        """Take where to note what was measured, and which models a task itself holds GPUs for."""
        self._journal, self._settings = journal, settings
        self.meters: dict[ModelRef, _Meter] = {}
        self._loading = asyncio.Lock()

    async def complete(
        self, engine: Engine, request: Request, endpoint: Endpoint, report: OnAttempt
    ) -> tuple[Outcome, float | None]:
        """Ask an engine, and return the call's share of the GPU's seconds beside what came."""
        clock = self._meter(request.model, endpoint).clock
        async with self._loading:
            started_s = time.monotonic()
            await engine.load(request.model)
            clock.loaded(time.monotonic() - started_s)
        mark = clock.begin()
        try:
            outcome = await engine.complete(request, report)
        finally:
            share_s = clock.end(mark)
        return outcome, share_s

    def _meter(self, model: ModelRef, endpoint: Endpoint) -> _Meter:
        if model not in self.meters:
            self.meters[model] = _Meter(GpuClock(), endpoint, process_age_s())
        return self.meters[model]

    def note(self) -> None:
        """Write into the journal what this process's GPUs did so far."""
        for model, meter in self.meters.items():
            is_ours = self._settings.runs_in_task(model)
            before_s = meter.before_s if is_ours else 0.0
            used = meter.clock.used(str(model), meter.endpoint, before_s=before_s)
            if not is_ours:  # a server is someone else's to keep: its waiting is not this run's
                used = used.model_copy(update={"load_s": 0.0, "idle_s": 0.0})
            self._journal.note_gpu(used.model_dump_json(), model.endpoint)
