"""What a process remembers of calls: the journal as the event loop sees it, and the calls so far.

A disk answers within microseconds and is asked in place; what calls write at about the same time
is written in one transaction, and each goes on once that is committed. An object store takes
milliseconds, during which other calls must go on: it is asked in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from nemoflows.calls import Outcome, Reply, Usage
from nemoflows.journal import Intent, Journal, Receipt, Record, Recorded
from nemoflows.money.budgets import Account, Budget
from nemoflows.money.ledger import Spent

T = TypeVar("T")
U = TypeVar("U")
_FIELDS = set(Spent.model_fields)
"""Given to each, for a set of its own takes two thirds of it."""
THREADS = 32
"""Operations on an object store at once; fsspec's own loop multiplexes them."""


MEASURING = "shadow"
"""The task whose calls only measure: where the run itself uses the same call, that use counts."""


class Use(NamedTuple):
    """What a call is used for."""

    account: Account
    first_key: str = ""
    """Key of the first request that was asked for the same value: a second ask has another key."""


class CallHistory:
    """Recalls and keeps calls; belongs to one client."""

    def __init__(self, journal: Journal, *, many_processes: bool) -> None:
        self.journal = journal
        self._spent: dict[str, Spent] = {}
        """The calls of this process so far by key; one that was paid here is no replay."""
        self._many_processes = many_processes
        self._threads = ThreadPoolExecutor(THREADS, "nemoflows-journal") if journal.far else None
        self._pending: set[Future[None]] = set()
        self._group: list[tuple[Callable[[Any], Any], Any, asyncio.Future[Any] | None]] = []
        """What is written next, in this order, and whoever waits for it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop that these are of."""
        self._lost: dict[str, Record] = {}
        """Calls that could not be written: this process at least does not pay for them again."""

    @property
    def spent(self) -> list[Spent]:
        """Return the calls of this process so far, replays included, each key once."""
        return list(self._spent.values())

    @property
    def near(self) -> bool:
        """Return whether the journal is asked in place."""
        return self._threads is None

    async def recall(self, key: str, use: Use, read: Callable[[Reply], Outcome]) -> Recorded | None:
        """Return what is recorded under `key`, and note who used it.

        Args:
            read: Reads a body that came, today: it may understand what it did not when it came.
        """
        record: Recorded | None = self._lost.get(key)
        record = record or await self._now(self.journal.outcome, key)
        if record is not None:
            record = read_again(record, read)
            self._note(record, use, replayed=True)
        return record

    async def keep(self, record: Record, use: Use) -> None:
        """Record a call; when this returns it is written, or known to be lost."""
        written = self._written(self.journal.put, record)
        self._note(record, use, replayed=False)
        if not await written and self.journal.root:
            self._lost[record.key] = record

    def unusable(self, keys: Sequence[str]) -> None:
        """Take note that what came was refused by its check: paid for, and of no use."""
        for key in keys:
            spent = self._spent.get(key)
            if spent is not None and not spent.reason:
                self._spent[key] = spent.model_copy(update={"reason": "invalid"})
                told = spent.model_dump(include={"key", "replayed", "first_key", "task", "tier"})
                told |= {"at_s": time.time(), "escalated": spent.escalated, "reason": "invalid"}
                self._soon(self.journal.receipt, Receipt.model_validate(told))

    async def begin(self, intent: Intent) -> None:
        """Write a line about an attempt; when this returns it is written."""
        if self.near:  # at once, so that what is announced leaves right after
            self.begin_soon(intent)
        else:
            await self._written(self.journal.begin, intent)

    def begin_soon(self, intent: Intent) -> None:
        """Announce an attempt without waiting for the line."""
        self._soon(self.journal.begin, intent)
        self._commit()

    def end(self, intent: Intent) -> None:
        """Say how an attempt ended; nobody waits for the line."""
        self._soon(self.journal.end, intent)

    def flush(self, within_s: float | None = None) -> None:
        """Write what waits; every task does so at its end.

        Args:
            within_s: Longest time to wait for lines that are on their way.
        """
        wait(self._pending, timeout=within_s)
        if self._loop is None or not self._loop.is_running() or self._loop is _running():
            self._commit()  # elsewhere the loop itself does so, at its next turn
        self.journal.flush()

    def close(self) -> None:
        """Let the threads end once they have written what waits."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    def calls(self, keys: Sequence[str]) -> list[Spent]:
        """Return the calls behind `keys`, in order: this process's own, else the journal's.

        A call that this process did not make was paid before, so it counts as replayed.
        """
        here = self._spent
        receipts: dict[str, Receipt] | None = None
        found = []
        for key in dict.fromkeys(keys):
            record = None if key in here else self.journal.outcome(key)
            if key in here:
                found.append(here[key])
            elif record is not None:
                receipts = self._receipts() if receipts is None else receipts
                elsewhere = self._many_processes and record.run == self.journal.run
                receipt = receipts.get(key) or Receipt(key=key, replayed=True, at_s=0.0)
                found.append(spent_of(record, receipt, replayed=not elsewhere))
        return found

    def open_budget(self, cap_usd: float | None, *, scope: str, call_keys: Sequence[str]) -> Budget:
        """Return a budget that knows the work done so far, in this process and before it.

        Args:
            cap_usd: Most that the work may cost; None is without end.
            scope: What tells this work from other work of the run.
            call_keys: Keys of calls that count too, such as those of earlier steps.
        """
        if cap_usd is None:
            return Budget()
        used = self.calls([*call_keys, *sorted(self.journal.begun(scope))])
        earlier = set(call_keys)
        cut = [
            attempt
            for attempt in self.journal.in_doubt()
            if attempt.scope == scope or attempt.key in earlier
        ]
        return Budget(
            cap_usd,
            used={call.key: (call.usd, call.worst_usd) for call in used},
            in_doubt_usd=sum(attempt.reserved_usd or 0.0 for attempt in cut),
        )

    def _receipts(self) -> dict[str, Receipt]:
        """Return the receipts of the run's processes by key: who paid, and not the sample's."""
        lines = self.journal.receipts()
        lines.sort(key=lambda line: (line.task != MEASURING, not line.replayed))  # the last counts
        reasons = {line.key: line.reason for line in lines if line.reason}
        told = {line.key: line for line in lines}
        return {
            k: line.model_copy(update={"reason": reasons.get(k, "")}) for k, line in told.items()
        }

    def _note(self, record: Recorded, use: Use, *, replayed: bool) -> None:
        account = use.account
        receipt = Receipt(
            key=record.key,
            replayed=replayed,
            at_s=time.time(),
            first_key=use.first_key,
            task=account.task,
            tier=account.tier,
            escalated=account.escalated,
        )
        known = self._spent.get(record.key)
        if known is None or not replayed or known.task == MEASURING:
            was_paid = known is not None and not known.replayed
            spent = spent_of(record, receipt, replayed=replayed and not was_paid)
            self._spent[record.key] = spent
        self._soon(self.journal.receipt, receipt)

    def _soon(self, write: Callable[[T], None], line: T) -> None:
        if self._threads is None:
            if loop := _running():
                self._next(loop, write, line)
            else:  # nobody could write it later
                write(line)
            return
        future = self._threads.submit(write, line)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    def _written(self, write: Callable[[U], T], given: U) -> Awaitable[T]:
        """Return what a write says once it is lasting; it is begun whoever waits for it."""
        loop = asyncio.get_running_loop()
        if self._threads is not None:
            return loop.run_in_executor(self._threads, write, given)
        said: asyncio.Future[T] = loop.create_future()
        self._next(loop, write, given, said)
        return said

    def _next(
        self,
        loop: asyncio.AbstractEventLoop,
        write: Callable[[U], T],
        given: U,
        said: asyncio.Future[T] | None = None,
    ) -> None:
        """Have something written with what else is written at this turn of the event loop."""
        if self._group and self._loop is not loop:
            self._commit()
        if not self._group:
            self._loop = loop
            loop.call_soon(self._commit)
        self._group.append((write, given, said))

    def _commit(self) -> None:
        group, self._group = self._group, []
        waiting = [(place, said) for place, (_, _, said) in enumerate(group) if said]
        told: list[Any] | Exception
        try:
            told = self.journal.write_together([(write, given) for write, given, _ in group])
        except Exception as error:  # noqa: BLE001  (whoever waits must hear of it)
            told = error
        for place, said in waiting:
            if said.done() or said.get_loop().is_closed():
                continue
            if isinstance(told, Exception):
                said.set_exception(told)
            else:
                said.set_result(told[place])

    async def _now(self, work: Callable[[U], T], given: U) -> T:
        if self._threads is None:
            return work(given)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, given)


def _running() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread; None where none runs."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def read_again(record: Recorded, read: Callable[[Reply], Outcome]) -> Recorded:
    """Return a record with what its body says today; its price stays what it was."""
    if record.outcome.reply.raw:
        with suppress(Exception):  # what was read of it when it came still stands
            return record.model_copy(update={"outcome": read(record.outcome.reply)})
    return record


def spent_of(record: Recorded, receipt: Receipt, *, replayed: bool) -> Spent:
    """Return a record as the ledger sees it, with what a receipt says of its use."""
    return Spent.model_construct(  # checked already; every call's stays in memory
        _FIELDS,
        key=record.key,
        purpose=record.purpose,
        model=record.model,
        usage=record.outcome.reply.usage or Usage(),
        usd=record.usd,
        worst_usd=record.worst_usd,
        replayed=replayed,
        started_s=record.started_s,
        seconds=record.ended_s - record.started_s,
        prompt_bytes=record.prompt_bytes,
        reason=getattr(record.outcome, "reason", "") or receipt.reason,
        first_key=receipt.first_key,
        task=receipt.task,
        tier=receipt.tier,
        escalated=receipt.escalated,
    )
