"""GPU time as money: shared among the calls that run at once, and what a pod's GPU did beside them.

A GPU that works on many calls at once gives each a share of every second, so that the shares of
all calls add up to the time it was busy. A pod holds its GPU from its start to its end: starting,
loading weights and waiting cost as much as working does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from nemoflows.models import Endpoint
from nemoflows.money.prices import gpu_usd
from nemoflows.types import Value


class GpuClock:
    """Measures one endpoint's GPU time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.load_s = 0.0
        """Time that loading weights took."""
        self.busy_s = 0.0
        """Time in which at least one call ran."""
        self._now = now
        self._n = 0
        self._share_s = 0.0
        self._at = self._began = now()

    def begin(self) -> float:
        """Count a call among those that run, and return the mark that `end` takes."""
        self._advance()
        self._n += 1
        return self._share_s

    def end(self, mark: float) -> float:
        """Return the call's share of the GPU's time in seconds."""
        self._advance()
        self._n -= 1
        return self._share_s - mark

    def loaded(self, seconds: float) -> None:
        """Add time that went by loading weights."""
        self.load_s += seconds

    def used(self, model: str, endpoint: Endpoint, *, before_s: float) -> GpuUse:
        """Return what the GPU did so far.

        Args:
            before_s: Time for which the pod held it before this clock was made.
        """
        self._advance()
        idle_s = self._at - self._began - self.load_s - self.busy_s
        return GpuUse(
            model=model,
            usd_per_s=gpu_usd(endpoint, 1.0),
            start_s=before_s,
            load_s=self.load_s,
            busy_s=self.busy_s,
            idle_s=max(0.0, idle_s),
        )

    def _advance(self) -> None:
        now = self._now()
        if self._n:
            self.busy_s += now - self._at
            self._share_s += (now - self._at) / self._n
        self._at = now


class GpuUse(Value):
    """What the GPUs of one process did, and what that costs."""

    model: str
    usd_per_s: float
    """Of all its GPUs together."""
    start_s: float
    """From the start of the process to the first use; pulling the image is not seen from here."""
    load_s: float
    busy_s: float
    """With at least one call running: what the calls' own prices add up to."""
    idle_s: float

    @property
    def overhead_usd(self) -> float:
        """Return what it cost beside the calls."""
        return self.usd_per_s * (self.start_s + self.load_s + self.idle_s)


def process_age_s() -> float:
    """Return for how long this process has run; 0 where the system does not say."""
    try:
        # The command's name, in brackets, may hold spaces.
        fields = Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()
        up_s = float(Path("/proc/uptime").read_text("utf-8").split()[0])
        return max(0.0, up_s - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0
