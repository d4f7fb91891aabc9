"""What a process remembers of calls: the journal as the event loop sees it, and the calls so far.

A disk answers within microseconds and is asked in place. An object store takes milliseconds, during
which other calls must go on: it is asked in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from nemoflows.calls import Usage
from nemoflows.journal import Intent, Journal, Receipt, Record, Recorded
from nemoflows.money.budgets import Account, Budget
from nemoflows.money.ledger import Spent

T = TypeVar("T")


NOTHING: Mapping[str, str] = {}


THREADS = 32
"""Operations on an object store at once; fsspec's own loop multiplexes them."""


_NOTED = (
    "key", "purpose", "model", "usd", "replayed", "started_s", "seconds", "prompt_bytes", "reason",
    "step", "task", "tier",
)  # fmt: skip


_Noted = tuple[
    str,
    str,
    str,
    float | None,
    bool,
    float,
    float,
    int,
    str,
    str,
    str,
    str,
    int,
    int,
    int,
    int,
    int,
]
"""A `costs.Spent` before anyone asks for it, its tokens last.

Plain numbers and texts, for there may be many: the garbage collector passes such tuples over.
"""


class Use(NamedTuple):
    """What a call is used for."""

    account: Account
    step: str = ""
    """Key of the first request of the step that it belongs to."""


NOBODYS = Use(Account())


class Memory:
    """Recalls and keeps calls; belongs to one door."""

    def __init__(self, journal: Journal, *, many_processes: bool) -> None:
        self.journal = journal
        self._many_processes = many_processes
        self._noted: list[_Noted] = []
        self._threads = ThreadPoolExecutor(THREADS, "nemoflows-journal") if journal.far else None
        self._pending: set[Future[None]] = set()
        self._lost: dict[str, Record] = {}
        """Calls that could not be written: this process at least does not pay for them again."""

    @property
    def near(self) -> bool:
        """Return whether recalling takes no waiting."""
        return self._threads is None

    @property
    def spent(self) -> list[Spent]:
        """Return the calls of this process so far, replays included."""
        return [
            Spent.model_validate(
                dict(zip(_NOTED, row, strict=False))
                | {"usage": dict(zip(Usage.model_fields, row[len(_NOTED) :], strict=True))}
            )
            for row in self._noted
        ]

    def recall_now(self, key: str, use: Use = NOBODYS) -> Recorded | None:
        """Return what is recorded under `key`, and note who used it."""
        record = self._lost.get(key) or self.journal.outcome(key)
        if record is not None:
            self._note(record, use, replayed=True)
        return record

    async def recall(self, key: str, use: Use = NOBODYS) -> Recorded | None:
        """Do the same without holding up others."""
        if self.near:
            return self.recall_now(key, use)
        lost: Recorded | None = self._lost.get(key)
        record = lost or await self._threaded(lambda: self.journal.outcome(key))
        if record is not None:
            self._note(record, use, replayed=True)
        return record

    async def keep(self, record: Record, use: Use = NOBODYS) -> None:
        """Record a call; when this returns it is written, or known to be lost."""
        if self.near:
            kept = self.journal.put(record)
        else:
            kept = await self._threaded(lambda: self.journal.put(record))
        if not kept and self.journal.root:
            self._lost[record.key] = record
        self._note(record, use, replayed=False)

    async def begin(self, intent: Intent) -> None:
        """Announce an attempt; when this returns it may be made."""
        if self.near:
            self.journal.begin(intent)
        else:
            await self._threaded(lambda: self.journal.begin(intent))

    def add(self, write: Callable[[Intent], None], intent: Intent) -> None:
        """Write a line that nobody waits for, with `journal.begin` or `journal.end`."""
        self._soon(lambda: write(intent))

    def flush(self, within_s: float | None = None) -> None:
        """Write what waits; every task does so at its end.

        Args:
            within_s: Longest time to wait for lines that are on their way.
        """
        wait(self._pending, timeout=within_s)
        self.journal.flush()

    def calls(self, keys: Sequence[str]) -> list[Spent]:
        """Return the calls behind `keys`, in order: this process's own, else the journal's.

        A call that this process did not make was paid before, so it counts as replayed.
        """
        noted, told = self.spent, None
        here = {spent.key: spent for spent in noted}
        here |= {spent.key: spent for spent in noted if not spent.replayed}
        found = []
        for key in dict.fromkeys(keys):
            record = None if key in here else self.journal.outcome(key)
            if key in here:
                found.append(here[key])
            elif record is not None:
                elsewhere = self._many_processes and record.run == self.journal.run
                told = self._receipts() if told is None else told
                found.append(spent_of(record, replayed=not elsewhere, told=told.get(key, NOTHING)))
        return found

    def open_budget(self, cap_usd: float | None, *, scope: str, spent: Sequence[str]) -> Budget:
        """Return a budget that knows the work done so far, in this process and before it.

        Args:
            cap_usd: Most that the work may cost; None is without end.
            scope: What tells this work from other work of the run.
            spent: Keys of calls that count too, such as earlier steps made.
        """
        if cap_usd is None:
            return Budget()
        used = self.calls([*spent, *sorted(self.journal.begun(scope))])
        earlier = set(spent)
        cut = [
            attempt
            for attempt in self.journal.uncertain()
            if attempt.scope == scope or attempt.key in earlier
        ]
        return Budget(
            cap_usd,
            used={call.key: call.usd for call in used},
            uncertain_usd=sum(attempt.reserved_usd or 0.0 for attempt in cut),
        )

    def _receipts(self) -> dict[str, Mapping[str, str]]:
        """Return what the receipts of the run's processes tell of each key; who paid, first."""
        lines = sorted(self.journal.receipts(), key=lambda line: not line["replayed"])
        return {line["key"]: line for line in lines}

    def _note(self, record: Recorded, use: Use, *, replayed: bool) -> None:
        used = record.usage
        self._noted.append(
            (
                record.key,
                record.purpose,
                record.model,
                record.usd,
                replayed,
                record.started_s,
                record.ended_s - record.started_s,
                record.prompt_bytes,
                record.reason,
                use.step,
                use.account.task,
                use.account.tier,
                used.input_tokens,
                used.cache_read_tokens,
                used.cache_write_tokens,
                used.output_tokens,
                used.reasoning_tokens,
            )
        )
        receipt = Receipt(record.key, replayed, time.time(), use.step, use.account.words)
        self._soon(lambda: self.journal.receipt(receipt))

    def _soon(self, write: Callable[[], None]) -> None:
        if self._threads is None:
            write()
            return
        future = self._threads.submit(write)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    async def _threaded(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def spent_of(record: Recorded, *, replayed: bool, told: Mapping[str, str] = NOTHING) -> Spent:
    """Return a record as the ledger sees it.

    Args:
        told: What a receipt tells of its use: step, task and tier.
    """
    return Spent(
        key=record.key,
        purpose=record.purpose,
        model=record.model,
        usage=record.usage,
        usd=record.usd,
        replayed=replayed,
        started_s=record.started_s,
        seconds=record.ended_s - record.started_s,
        prompt_bytes=record.prompt_bytes,
        reason=record.reason,
        step=told.get("step", ""),
        task=told.get("task", ""),
        tier=told.get("tier", ""),
    )
