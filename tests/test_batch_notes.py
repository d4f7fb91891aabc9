"""The notes beside a batch: none, damaged, old, of another process, of two at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered
from nemoflows.engines.anthropic.batches import AnthropicBatch
from nemoflows.engines.anthropic.notes import BatchRegistry, Note, may_be_alive
from nemoflows.errors import EndpointDown
from nemoflows.llm.results import Failure, Success
from nemoflows.storage.opening import open_records
from nemoflows.types import ModelRef
from tests.batches import (
    BatchServer,
    ask_all,
    asks,
    batch_client,
    expected,
    keys_of,
    notes_of,
    run,
    values,
)
from tests.support import request

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def claude() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "j")


def test_nothing_is_sent_where_no_note_can_be_kept(claude: BatchServer, tmp_path: Path) -> None:
    engine = batch_client(claude.base, "").engines.of(ModelRef.model_validate("claude:tiny"))
    assert isinstance(engine, AnthropicBatch)
    (tmp_path / "file").touch()
    engine._registry._notes = open_records(str(tmp_path / "file" / "below"))

    async def work() -> None:
        try:
            await engine.complete(request(model="claude:tiny"), lambda _: None)
        finally:
            await engine.aclose()

    with pytest.raises(EndpointDown, match="no batch was sent"):
        asyncio.run(work())
    assert claude.batches == []


def test_a_damaged_note_is_passed_over_and_an_old_one_set_aside(
    claude: BatchServer, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = BatchRegistry(open_records(root), "claude")
    keys = keys_of([ask.request for ask in asks(2)])
    gone = {"at_s": time.time() - 30 * 86_400, "batch": "msgbatch_old"}
    old = registry.announce(keys, 0.0).model_copy(update=gone)
    registry.found(old, "msgbatch_old")
    open_records(root).write("batches/claude/open/0-damaged.json", b'{"name": ')
    assert values(run(claude, root, asks(2))[0]) == expected(2)
    assert "is damaged and passed over" in caplog.text
    assert len(notes_of(root, "done")) == 2


def note(**changes: Any) -> Note:
    made = BatchRegistry(None, "claude").announce(["k"], 0.0)
    return made.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "alive"),
    [
        ({}, False),
        ({"pid": 2**22 + 5}, False),
        ({"pid": os.getppid()}, True),
        ({"pid": os.getppid(), "at_s": 0.0}, False),
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "at_s": 0.0}, False),
    ],
)
def test_a_writer_counts_as_alive_while_it_may_be(changes: dict[str, Any], *, alive: bool) -> None:
    assert may_be_alive(note(**changes), grace_s=60) is alive


def test_a_note_of_a_process_that_may_be_alive_is_waited_for(
    claude: BatchServer, root: str
) -> None:
    registry = BatchRegistry(open_records(root), "claude")
    keys = keys_of([ask.request for ask in asks(2)])
    theirs = registry.announce(keys, 0.0).model_copy(update={"host": "elsewhere"})
    registry._write(theirs)

    async def work() -> list[Success[str] | Failure]:
        asked = asyncio.create_task(ask_all(batch_client(claude.base, root), asks(2)))
        await asyncio.sleep(1.0)
        assert claude.batches == [], "nothing is sent meanwhile"
        wanted = [{"custom_id": key, "params": {"model": "tiny", "messages": []}} for key in keys]
        registry.found(theirs, claude.add(wanted).id)
        return await asked

    assert len(asyncio.run(work())) == 2
    assert len(claude.batches) == 1


def test_of_two_announcements_the_later_one_gives_way(root: str) -> None:
    registry = BatchRegistry(open_records(root), "claude")
    alone = registry.announce(["x"], 0.0)
    made = [registry.announce(["a", "b"], 0.0), registry.announce(["b", "c"], 0.0)]
    first, second = sorted(made, key=lambda note: note.name)

    def told(note: Note) -> bool | None:
        return registry.goes_first(note, grace_s=60)

    assert told(alone) is True
    with registry.creating(second):
        assert told(second) is False
        assert told(first) is None, "the later one may have looked before this note was there"
    assert told(first) is False, "the later one's writer is gone and may have sent it"
    registry.found(second, "msgbatch_1")
    assert told(first) is False, "one that was sent goes first"
    registry.close(second)
    assert told(first) is False, "also when it was read since"
    registry.withdraw(second)
    registry._notes.remove(f"batches/claude/done/{second.name}.json")
    assert told(first) is True


class SlowToShow:
    """A store in which a rival that looked too soon announces itself, and is heard of later."""

    def __init__(self, claude: BatchServer, root: str, rows: list[dict[str, Any]]) -> None:
        self.store, self.claude, self.rows = open_records(root), claude, rows
        self.registry = BatchRegistry(self.store, "claude")
        self.rival: Note | None = None
        self.n_looks = 0

    def read(self, name: str) -> bytes | None:
        return self.store.read(name)

    def write(self, name: str, data: bytes) -> None:
        self.store.write(name, data)
        if self.rival is None:
            time.sleep(0.002)  # its name is later
            made = self.registry.announce([row["custom_id"] for row in self.rows], 0.0)
            self.rival = made.model_copy(update={"host": "elsewhere"})
            self.registry._write(self.rival)

    def names(self, folder: str) -> list[str]:
        self.n_looks += self.rival is not None
        if self.rival is not None and self.n_looks == 6:
            self.registry.found(self.rival, self.claude.add(self.rows).id)
        return self.store.names(folder)

    def move(self, name: str, to: str) -> None:
        self.store.move(name, to)

    def remove(self, name: str) -> None:
        self.store.remove(name)


def test_a_rival_that_looked_too_soon_is_waited_for(claude: BatchServer, root: str) -> None:
    asked = request("question 0", model="claude:tiny")
    [key] = keys_of([asked])
    rows = [{"custom_id": key, "params": {"model": "tiny", "messages": []}}]
    engine = batch_client(claude.base, root).engines.of(asked.model)
    assert isinstance(engine, AnthropicBatch)
    registry: Any = engine._registry
    registry._notes = slow = SlowToShow(claude, root, rows)

    async def work() -> None:
        try:
            await engine.complete(asked, lambda _: None)
        finally:
            await engine.aclose()

    asyncio.run(work())
    assert slow.n_looks > 6
    assert claude.paid_rows == 1, "the rival's batch is read and no other is sent"


def test_what_another_process_has_read_meanwhile_is_not_sent_again(
    claude: BatchServer, root: str
) -> None:
    asked = request("question 0", model="claude:tiny")

    async def ask(*, reads: bool) -> None:
        """Ask past the client, which looked into the journal before the other one was done."""
        engine = batch_client(claude.base, root).engines.of(asked.model)
        assert isinstance(engine, AnthropicBatch)
        try:
            assert isinstance(await engine.complete(asked, lambda _: None), Answered)
            if reads:
                engine.recorded(keys_of([asked])[0])
        finally:
            await engine.aclose()

    asyncio.run(ask(reads=True))
    assert notes_of(root, "open") == []
    asyncio.run(ask(reads=False))
    assert claude.paid_rows == 1
