"""The part of a journal that is about runs: what they left, and what they note for a report.

A note is worth no run, so that failing to write one is no error.
"""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.journal.records import InDoubt, Intent, Receipt, in_doubt
from nemoflows.storage.store import Records

L = TypeVar("L", Intent, Receipt)
Noted = Literal["shadows", "superseded"]
numbers = itertools.count(1)
"""Tells apart what one process writes."""


class Notes(ABC):
    """What no call needs of a journal."""

    run: str
    writer: str
    _store: Records | None

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...
    @abstractmethod
    def _content(self, key: str) -> bytes | None: ...
    @abstractmethod
    def _answering(self) -> AbstractContextManager[None]: ...

    def in_doubt(self, run: str = "") -> list[InDoubt]:
        """Return the attempts of a run that may have been billed without a record.

        Args:
            run: Its id; empty is this journal's own run.
        """
        found = []
        for writer in self._writers("intents", run):
            if cut := in_doubt(writer, self._lines("intents", Intent, run, writer), set()):
                answered = {each.key for each in cut if self._writer_of(each.key) == writer}
                lines = self._lines("intents", Intent, run, writer)
                found += in_doubt(writer, lines, answered) if answered else cut
        return sorted(found, key=lambda attempt: attempt.at_s)

    def begun(self, scope: str) -> set[str]:
        """Return the keys of this run's calls that were made, or announced, for some work."""
        return {line.key for line in self._lines("intents", Intent) if line.scope == scope}

    def receipts(self, run: str = "") -> list[Receipt]:
        """Return what the processes of a run used, in the order of time.

        Args:
            run: Its id; empty is this journal's own run.
        """
        return sorted(self._lines("receipts", Receipt, run), key=lambda line: line.at_s)

    def last_s(self, run: str) -> float:
        """Return when a process of a run last wrote of an attempt or a use; 0 where none did."""
        found = [0.0]
        for folder, kind in (("receipts", Receipt), ("intents", Intent)):
            for name in self._store.names(f"{folder}/{run}") if self._store else []:
                with suppress(ValidationError):
                    found.append(kind.read(self._store.last(name)).at_s if self._store else 0.0)
        return max(found)

    def size_bytes(self, kind: str, run: str) -> int:
        """Return how much a run's processes wrote of one kind."""
        return sum(self._store.sizes(f"{kind}/{run}").values()) if self._store else 0

    def each_receipt(self, run: str) -> Iterator[Receipt]:
        """Yield what the processes of a run used, one at a time in memory."""
        return self._lines("receipts", Receipt, run)

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
        read = map(self._read, self._names(kind, run))
        return [data.decode("utf-8", "replace") for data in read if data]

    def _names(self, folder: str, run: str) -> list[str]:
        """Return the files of a run's processes; of this journal's own run where it is empty."""
        return self._store.names(f"{folder}/{run or self.run or 'run'}") if self._store else []

    def _note(self, name: str, told: str) -> None:
        with suppress(NemoflowsError):
            if self._store:
                self._store.write(name, told.encode("utf-8", "replace"))

    def _writer_of(self, key: str) -> str:
        with suppress(BadInput):  # what cannot be read answers nothing
            data = self._content(key)
            return str(((line_of(data) if data else None) or {}).get("writer", ""))
        return ""

    def _writers(self, folder: str, run: str = "") -> list[str]:
        return list(dict.fromkeys(map(_writer_in, self._names(folder, run))))

    def _lines(self, folder: str, kind: type[L], run: str = "", writer: str = "") -> Iterator[L]:
        """Yield the lines of a run's processes, or of one, in order; half a line is none."""
        for name in self._names(folder, run):
            if writer in {"", _writer_in(name)}:
                with self._answering():
                    for data in self._store.lines(name) if self._store else []:
                        with suppress(ValidationError):
                            yield kind.read(data)


def line_of(data: bytes) -> dict[str, Any] | None:
    """Return what a line of JSON says; None where it says nothing."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _writer_in(name: str) -> str:
    return name.rpartition("/")[2].partition("-")[0]
