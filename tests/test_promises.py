"""Promises about money that a reviewer broke once, each by the smallest thing that broke it."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request, Unanswered, Usage
from nemoflows.engines.anthropic.notes import BatchRegistry
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadInput, BadModel
from nemoflows.journal import Journal
from nemoflows.journal.records import is_in_doubt
from nemoflows.journal.summary import runs
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.money.prices import price_usd
from nemoflows.settings import Settings
from nemoflows.storage.local import LocalStore
from nemoflows.storage.objects import ObjectStore
from nemoflows.storage.opening import open_store
from nemoflows.types import ModelRef
from tests.journals import only_record, recorded, rewrite
from tests.loopback import ModelServer
from tests.support import make_llm, request

LONE = "\ud800"


def ask(text: str = "hello") -> CallSpec[str]:
    return CallSpec(request(text), lambda reply, _: reply.text)


def test_a_newer_versions_record_is_replayed_and_never_set_aside(root: str) -> None:
    asyncio.run(make_llm(FakeEngine([Rule(reply="hi")]), root).complete(ask()))
    name, data = only_record(root)
    told = json.loads(data)
    told["outcome"]["reply"]["newer"] = 1
    told["request"]["newer"] = told["newer"] = {"x": 1}
    rewrite(root, name, json.dumps(told).encode())
    engine = FakeEngine([Rule(reply="other")])
    llm = make_llm(engine, root)
    done = asyncio.run(llm.complete(ask()))
    assert isinstance(done, Success)
    assert done.value == "hi"
    assert engine.asked == []
    assert llm.in_doubt() == []
    assert len(list(llm.journal.records())) == 1
    assert list(recorded(root)) == [name]


def test_a_record_that_another_version_alone_can_read_stops_the_run(root: str) -> None:
    asyncio.run(make_llm(FakeEngine([Rule(reply="hi")]), root).complete(ask()))
    name, data = only_record(root)
    told = json.loads(data)
    told["outcome"]["reply"]["stop"] = "a new way to stop"
    rewrite(root, name, json.dumps(told).encode())
    engine = FakeEngine([Rule(reply="other")])
    with pytest.raises(BadInput, match=r"another version.*it is paid"):
        asyncio.run(make_llm(engine, root).complete(ask()))
    assert engine.asked == []
    assert list(recorded(root)) == [name]


def test_a_newer_versions_note_still_says_that_a_batch_is_under_way() -> None:
    notes = open_store(f"memory://{uuid.uuid4()}")
    registry = BatchRegistry(notes, "anthropic-batch")
    note = registry.found(registry.announce(["k1"], 0.0), "msgbatch_1")
    [name] = notes.names("batches")
    notes.write(name, json.dumps({**json.loads(notes.read(name) or b""), "newer": 1}).encode())
    assert registry.open() == [note]


def test_one_key_asked_twice_at_once_is_paid_once_on_a_slow_far_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    reads = iter([0.0, 0.3])
    read = ObjectStore.read

    def slow(self: ObjectStore, name: str) -> bytes | None:
        data = read(self, name)
        time.sleep(next(reads, 0.0))
        return data

    monkeypatch.setattr(ObjectStore, "read", slow)
    engine = FakeEngine([Rule(reply="hi")])
    llm = make_llm(engine, f"memory://{uuid.uuid4()}")

    async def both() -> None:
        await asyncio.gather(llm.complete(ask()), llm.complete(ask()))

    asyncio.run(both())
    assert len(engine.asked) == 1


def test_draining_sends_nothing_that_waits_for_its_turn() -> None:
    with ModelServer(latency_s=0.5) as server:
        engine = OpenAI(Endpoint(dialect="openai", base_url=server.url), name="near", deadline_s=60)
        llm = make_llm(engine, "", endpoint="near")
        asks = [
            CallSpec(request(str(n), model="near:tiny"), lambda reply, _: reply.text)
            for n in range(40)
        ]

        async def work() -> list[Success[str] | Failure]:
            await llm.preflight(ModelRef.model_validate("near:tiny"))
            batch = asyncio.ensure_future(llm.batch(asks, max_failed=1.0))
            while len(server.requests) < 16:  # noqa: ASYNC110  (threads)
                await asyncio.sleep(0.01)
            await asyncio.wait_for(llm.drain(), 10)
            n_sent = len(server.requests)
            results = await asyncio.wait_for(batch, 10)
            assert len(server.requests) == n_sent
            await llm.aclose()
            return results

        results = asyncio.run(work())
        n_sent = len(server.requests)
    assert sum(isinstance(result, Success) for result in results) == n_sent < 40
    unsent = [result for result in results if isinstance(result, Failure)]
    assert {(result.reason, result.transient) for result in unsent} == {("cancelled", True)}


@pytest.mark.parametrize(
    "usage", [Usage(input_tokens=-5, output_tokens=1), Usage(input_tokens=1, output_tokens=-1)]
)
def test_odd_usage_has_no_price_and_costs_no_record(usage: Usage) -> None:
    model = ModelRef.model_validate("openai:gpt-6-luna")
    price_usd(model, BUILT_IN["openai"], usage, at_s=1.8e9)


def deep(n: int) -> dict[str, object]:
    return {"a": deep(n - 1)} if n else {}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": LONE},
        {"request_id": LONE},
        {"notes": [LONE]},
        {"blocks": [{"type": "text", "text": LONE, LONE: [LONE]}]},
        {"tool_calls": [{"id": LONE, "name": LONE, "arguments": LONE}]},
        {"blocks": [deep(300)]},
    ],
    ids=["model", "id", "note", "block", "tool", "deep"],
)
def test_whatever_a_provider_sends_is_recorded(changes: dict[str, object], tmp_path: Path) -> None:
    class Odd(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            await super().complete(request, on_attempt)
            return Answered(reply=Reply.model_validate({"text": "hi", **changes}))

    engine = Odd([Rule(reply="hi")])
    asyncio.run(make_llm(engine, tmp_path).complete(ask()))
    assert make_llm(engine, tmp_path).journal.durable
    again = FakeEngine([Rule(reply="other")])
    assert isinstance(asyncio.run(make_llm(again, tmp_path).complete(ask())), Success)
    assert again.asked == []


def test_a_call_that_could_not_be_written_is_not_paid_again_by_its_own_process(
    tmp_path: Path,
) -> None:
    engine = FakeEngine([Rule(reply="hi")])
    llm = make_llm(engine, f"file://{tmp_path / 'j'}")
    (tmp_path / "j" / "calls").write_text("in the way")
    assert isinstance(asyncio.run(llm.complete(ask())), Success)
    (tmp_path / "j" / "calls").unlink()
    assert isinstance(asyncio.run(llm.complete(ask())), Success)
    assert len(engine.asked) == 1


def test_asking_again_hides_no_attempt_that_was_cut_off(tmp_path: Path) -> None:
    class Breaks(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            self.asked.append(request)
            if len(self.asked) < 3:
                on_attempt(Attempt(number=1, started_s=1, ended_s=2, status="APIConnectionError"))
                return Unanswered(reason="down", detail="gone", transient=True)
            return await super().complete(request, on_attempt)

    llm = make_llm(Breaks([Rule(reply="hi")]), tmp_path)
    for _ in range(3):
        asyncio.run(llm.complete(ask()))
    assert [cut.why for cut in llm.in_doubt()] == ["APIConnectionError"] * 2


@pytest.mark.parametrize("status", ["x 502", "x 504", "x 524", "x 408", "x 499", "x 200"])
def test_a_gateways_timeout_may_be_billed(status: str) -> None:
    assert is_in_doubt(status)
    assert not is_in_doubt("x 429")
    assert not is_in_doubt("x 500")


def test_half_a_line_does_not_swallow_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    store, write = LocalStore(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="half a line"):
        store.append("intents/r/a-0.jsonl", b'{"key":"aa"}\n')
    monkeypatch.undo()
    assert store.append("intents/r/a-0.jsonl", b'{"key":"bb"}\n')
    assert (store.read("intents/r/a-0.jsonl") or b"").splitlines()[-1] == b'{"key":"bb"}'


def test_a_run_that_recorded_nothing_is_listed(tmp_path: Path) -> None:
    class Gone(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            self.asked.append(request)
            on_attempt(Attempt(number=1, started_s=1, ended_s=2, status="deadline"))
            return Unanswered(reason="deadline", detail="gone", transient=True)

    asyncio.run(make_llm(Gone([Rule(reply="hi")]), tmp_path).complete(ask()))
    [run] = runs(Journal(str(tmp_path)))
    assert (run.run, run.calls, run.in_doubt) == ("test", 0, 1)


def test_a_second_ask_that_is_refused_leaves_the_first_ones_reason(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(fault="truncated", times=1), Rule(fault="rejected")])
    failed = asyncio.run(make_llm(engine, tmp_path).complete(ask()))
    assert isinstance(failed, Failure)
    assert failed.reason == "truncated"
    assert len(engine.asked) == 2


@pytest.mark.parametrize(
    ("dialect", "where"),
    [
        ("nim", "https://integrate.api.nvidia.com/v1"),
        ("deepseek", "https://api.deepseek.com"),
        ("sglang", "http://127.0.0.1:30000/v1"),
        ("vllm-server", "http://127.0.0.1:8000/v1"),
    ],
)
def test_an_endpoint_without_an_address_goes_to_its_own_dialects_place(
    dialect: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEMOFLOWS_OFFLINE")
    mine = Endpoint.model_validate({"dialect": dialect, "rpm": 40})
    settings = Settings(endpoints={"mine": mine})
    assert settings.endpoint(ModelRef.model_validate("mine:x")).base_url == where


def test_a_compatible_endpoint_must_say_where_it_is() -> None:
    settings = Settings(endpoints={"mine": Endpoint(dialect="compatible")})
    with pytest.raises(BadModel, match=r"no base_url.*No call was made"):
        settings.endpoint(ModelRef.model_validate("mine:x"))


@pytest.mark.parametrize("spelling", ["vllm:/mo dels/nano", "fake:/tmp/new comer/s.json"])
def test_a_path_may_hold_spaces(spelling: str) -> None:
    assert str(ModelRef.model_validate(spelling)) == spelling
