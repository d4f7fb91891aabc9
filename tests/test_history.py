"""Remembering without holding up others: a far store is asked in threads, a near one in place."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nemoflows.calls import Reply
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.errors import BadReply
from nemoflows.journal import Journal
from nemoflows.llm.results import CallSpec, Success
from nemoflows.money.budgets import Account
from nemoflows.storage.objects import ObjectStore
from tests.support import make_llm, request

SLOW_S = 0.05


@dataclass
class Operations:
    """What a far store is asked: how many at once, and in which threads."""

    n: int = 0
    most: int = 0
    threads: set[threading.Thread] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def one(self) -> Iterator[None]:
        with self.lock:
            self.n += 1
            self.most = max(self.most, self.n)
            self.threads.add(threading.current_thread())
        time.sleep(SLOW_S)
        yield
        with self.lock:
            self.n -= 1


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Operations:
    """Have an object store take its time, as every one does, and return what it is asked."""
    found = Operations()
    read, write = ObjectStore.read, ObjectStore.write

    def slow_read(self: ObjectStore, name: str) -> bytes | None:
        with found.one():
            return read(self, name)

    def slow_write(self: ObjectStore, name: str, data: bytes, *_: object) -> None:
        with found.one():
            write(self, name, data)

    monkeypatch.setattr(ObjectStore, "read", slow_read)
    monkeypatch.setattr(ObjectStore, "write", slow_write)
    return found


@pytest.fixture
def far(operations: Operations) -> str:
    """Return the root of such a store."""
    assert not operations.n
    return f"memory://{uuid.uuid4()}"


def asks(n: int) -> list[CallSpec[str]]:
    return [CallSpec(request(str(number)), lambda reply, _: reply.text) for number in range(n)]


def fake() -> FakeEngine:
    return FakeEngine([Rule(reply="{}")])


def test_a_far_store_holds_up_nobody(operations: Operations, far: str) -> None:
    llm = make_llm(fake(), far)
    assert not llm.history.near
    operations.threads.clear()
    asyncio.run(llm.batch(asks(40)))
    assert operations.most > 1, "operations go on beside each other"
    assert threading.main_thread() not in operations.threads, "the event loop waits for none"
    llm.flush()
    assert len(llm.spent) == 40


def test_what_is_kept_far_away_is_recalled_beside_each_other(
    operations: Operations, far: str
) -> None:
    first, second = make_llm(fake(), far), fake()
    asyncio.run(first.batch(asks(20)))
    again = make_llm(second, far)
    operations.most = 0
    results = asyncio.run(again.batch(asks(20)))
    assert operations.most > 1
    assert all(isinstance(result, Success) for result in results)
    assert second.asked == []
    assert all(spent.replayed for spent in again.spent)


def test_a_record_is_written_before_its_value_is_returned(far: str) -> None:
    llm = make_llm(fake(), far)
    done = asyncio.run(llm.complete(asks(1)[0]))
    assert Journal(far).get(done.calls[0]) is not None


def test_flushing_waits_for_lines_that_are_on_their_way(far: str) -> None:
    llm = make_llm(fake(), far)
    asyncio.run(llm.batch(asks(5)))
    llm.flush()
    names = llm.journal._store.names("receipts") if llm.journal._store else []
    lines = b"".join(llm.journal._store.read(n) or b"" for n in names)  # type: ignore[union-attr]
    assert lines.count(b"\n") == 5
    assert llm.in_doubt() == []


def test_a_disk_is_asked_in_place(tmp_path: Path) -> None:
    assert make_llm(fake(), tmp_path).history.near
    assert make_llm(fake(), "").history.near


def test_what_a_run_escalated_stays_so_where_a_sample_draws_it_too(tmp_path: Path) -> None:
    def used(run: str) -> list[bool]:
        llm = make_llm(FakeEngine([Rule(reply="{}")]), tmp_path)
        llm.journal.run = run
        for account in (
            Account("shadow", "frontier"),
            Account("escalate", "frontier", escalated=True),
        ):
            for each in (account, Account("shadow", "frontier")):
                spec = CallSpec(request(), lambda reply, _: reply.text, account=each)
                asyncio.run(llm.complete(spec))
        llm.flush()
        again = make_llm(FakeEngine(), tmp_path)
        again.journal.run = run
        return [spent.escalated for spent in [*llm.spent, *again.calls([llm.spent[0].key])]]

    assert used("first") == [True, True], "paid for by the sample"
    assert used("again") == [True, True], "replayed"


def test_a_reply_that_its_check_refuses_counts_as_unusable_here_and_in_the_journal(
    tmp_path: Path,
) -> None:
    def refuse(reply: Reply, final: bool) -> str:
        raise BadReply(f"{reply.text} is of no use, final or not: {final}")

    for run in ("first", "again"):
        llm = make_llm(FakeEngine([Rule(reply="{}")]), tmp_path)
        llm.journal.run = run
        asyncio.run(llm.complete(CallSpec(request(), refuse)))
        llm.flush()
        elsewhere = make_llm(FakeEngine(), tmp_path)
        elsewhere.journal.run = run
        keys = [spent.key for spent in llm.spent]
        assert [spent.reason for spent in llm.spent] == ["invalid"] * 2
        assert [spent.reason for spent in elsewhere.calls(keys)] == ["invalid"] * 2
