"""The part of a journal that is about runs: what they left, and what they note for a report.

A note is worth no run, so that failing to write one is no error.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Literal, get_args

from nemoflows.errors import NemoflowsError
from nemoflows.storage.store import Store

Noted = Literal["shadows", "superseded"]
numbers = itertools.count(1)
"""Tells apart what one process writes."""


class Notes(ABC):
    """What no call needs of a journal."""

    run: str
    writer: str
    _store: Store | None

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    def runs(self, kind: str = "intents") -> list[str]:
        """Return the ids of all runs that announced an attempt, sorted.

        Args:
            kind: Of what they left: `intents`, `receipts` or `stories`.
        """
        names = self._store.names(kind) if self._store else []
        left = (name.removeprefix(f"{kind}/") for name in names)
        if kind == "stories":
            return sorted(name.removesuffix(".json") for name in left)
        return sorted({name.rpartition("/")[0] for name in left})

    def remove_lines(self, run: str) -> None:
        """Remove what is told of a run's attempts and replays, its GPUs and its story."""
        if not self._store:
            return
        names = [
            name
            for kind in ("receipts", "intents", "gpus", *get_args(Noted))
            for name in self._store.names(f"{kind}/{run}")
        ]
        story = f"stories/{run}.json"
        for name in [*names, *([story] if self._read(story) else [])]:
            self._store.remove(name)

    def note_gpu(self, told: str, endpoint: str) -> None:
        """Write what this process's GPUs did so far."""
        self._note(f"gpus/{self.run or 'run'}/{self.writer}-{endpoint}.json", told)

    def gpu_notes(self, run: str = "") -> list[str]:
        """Return what the processes of a run wrote of their GPUs."""
        return self._notes("gpus", run)

    def note(self, kind: Noted, told: str) -> None:
        """Write what this process measured, or whose calls the next tier answered again."""
        self._note(f"{kind}/{self.run or 'run'}/{self.writer}-{next(numbers)}.json", told)

    def notes(self, kind: Noted, run: str = "") -> list[str]:
        """Return what the processes of a run noted."""
        return self._notes(kind, run)

    def note_story(self, told: str) -> None:
        """Write what this run's report shows beside its calls."""
        self._note(f"stories/{self.run or 'run'}.json", told)

    def story(self, run: str = "") -> str:
        """Return what a run wrote for its report; empty where it has not come that far."""
        data = self._read(f"stories/{run or self.run or 'run'}.json")
        return data.decode("utf-8", "replace") if data else ""

    def _notes(self, kind: str, run: str) -> list[str]:
        names = self._store.names(f"{kind}/{run or self.run or 'run'}") if self._store else []
        return [data.decode("utf-8", "replace") for name in names if (data := self._read(name))]

    def _note(self, name: str, told: str) -> None:
        with suppress(NemoflowsError):
            if self._store:
                self._store.write(name, told.encode("utf-8", "replace"))
