"""GPU time where it is what is paid for: each call's share of it, and what the GPUs did in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from nemoflows.calls import Outcome
from nemoflows.engines.protocol import Loads, OnAttempt
from nemoflows.journal import Journal
from nemoflows.llm.call import Flight
from nemoflows.models import Endpoint
from nemoflows.money.gpu_time import GpuClock, GpuUse, process_age_s
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
        self._meters: dict[ModelRef, _Meter] = {}
        self._loading = asyncio.Lock()

    async def complete(self, flight: Flight, endpoint: Endpoint, report: OnAttempt) -> Outcome:
        """Ask a call's engine; the call's share of the GPU's time is the flight's `gpu_s` then."""
        engine, model = flight.engine, flight.request.model
        clock = self._meter(model, endpoint).clock
        if isinstance(engine, Loads):
            async with self._loading:
                started_s = time.monotonic()
                await engine.load(model)
                clock.loaded(time.monotonic() - started_s)
        mark = clock.begin()
        try:
            return await engine.complete(flight.request, report)
        finally:
            flight.gpu_s = clock.end(mark)

    def _meter(self, model: ModelRef, endpoint: Endpoint) -> _Meter:
        if model not in self._meters:
            self._meters[model] = _Meter(GpuClock(), endpoint, process_age_s())
        return self._meters[model]

    def note(self) -> None:
        """Write into the journal what this process's GPUs did so far."""
        for model, meter in self._meters.items():
            held_s = meter.before_s if self._settings.runs_in_task(model) else 0.0
            used = meter.clock.used(str(model), meter.endpoint, before_s=held_s)
            if not held_s:  # a server is someone else's to keep: its waiting is not this run's
                used = used.model_copy(update={"idle_s": 0.0})
            self._journal.note_gpu(used.model_dump_json(), model.endpoint)

    def of_the_run(self) -> list[GpuUse]:
        """Return what the GPUs of all processes of this run did."""
        return [GpuUse.model_validate_json(told) for told in self._journal.gpu_notes()]
