"""Remembering without holding up others: a far store is asked in threads, a near one in place."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import pytest

from nemoflows.engines.scripted import Rule, Scripted
from nemoflows.journal import Journal
from nemoflows.journal.stores import RemoteStore
from nemoflows.llm.client import Door
from nemoflows.llm.results import Ask, Done
from tests.support import make_door, request

SLOW_S = 0.05


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the root of an object store that takes its time, as every one does."""
    read, write = RemoteStore.read, RemoteStore.write

    def slow_read(self: RemoteStore, name: str) -> bytes | None:
        time.sleep(SLOW_S)
        return read(self, name)

    def slow_write(self: RemoteStore, name: str, data: bytes) -> None:
        time.sleep(SLOW_S)
        write(self, name, data)

    monkeypatch.setattr(RemoteStore, "read", slow_read)
    monkeypatch.setattr(RemoteStore, "write", slow_write)
    return f"memory://{uuid.uuid4()}"


def asks(n: int) -> list[Ask[str]]:
    return [Ask(request(str(number)), lambda reply, _: reply.text) for number in range(n)]


def scripted() -> Scripted:
    return Scripted([Rule(reply="{}")])


def longest_stall_s(door: Door, n: int) -> float:
    """Return the longest time for which the event loop did nothing else during a batch."""

    async def work() -> float:
        worst, ticking = 0.0, True

        async def tick() -> None:
            nonlocal worst
            while ticking:
                started_s = time.monotonic()
                await asyncio.sleep(0.001)
                worst = max(worst, time.monotonic() - started_s)

        ticker = asyncio.ensure_future(tick())
        await door.batch(asks(n))
        ticking = False
        await ticker
        return worst

    return asyncio.run(work())


def test_a_far_store_holds_up_nobody(far: str) -> None:
    door = make_door(scripted(), far)
    assert not door.memory.near
    n = 40
    assert longest_stall_s(door, n) < n * SLOW_S / 4, "operations go on beside each other"
    door.flush()
    assert len(door.spent) == n


def test_what_is_kept_far_away_is_recalled_beside_each_other(far: str) -> None:
    first, second = make_door(scripted(), far), scripted()
    asyncio.run(first.batch(asks(20)))
    again = make_door(second, far)
    started_s = time.monotonic()
    results = asyncio.run(again.batch(asks(20)))
    assert time.monotonic() - started_s < 20 * SLOW_S
    assert all(isinstance(result, Done) for result in results)
    assert second.asked == []
    assert all(spent.replayed for spent in again.spent)


def test_a_record_is_written_before_its_value_is_returned(far: str) -> None:
    door = make_door(scripted(), far)
    done = asyncio.run(door.ask(asks(1)[0]))
    assert Journal(far).get(done.calls[0]) is not None


def test_flushing_waits_for_lines_that_are_on_their_way(far: str) -> None:
    door = make_door(scripted(), far)
    asyncio.run(door.batch(asks(5)))
    door.flush()
    names = door.journal._store.names("receipts") if door.journal._store else []
    lines = b"".join(door.journal._store.read(n) or b"" for n in names)  # type: ignore[union-attr]
    assert lines.count(b"\n") == 5
    assert door.uncertain() == []


def test_a_disk_is_asked_in_place(tmp_path: Path) -> None:
    assert make_door(scripted(), tmp_path).memory.near
    assert make_door(scripted(), "").memory.near
