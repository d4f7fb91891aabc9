"""The llm: replay, single flight, record before parse, ask once more, failures as data."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request, Usage
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.builtin import Builtin
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadReply, EndpointDown, OverBudget, RateLimited, TooManyFailures
from nemoflows.llm.call import InFlightLimiter
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success, unwrap
from nemoflows.models import Endpoint
from nemoflows.money.budgets import Account, Budget
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.journals import recorded
from tests.loopback import ModelServer
from tests.support import make_llm, request


def text(reply: Reply, final: bool) -> str:
    del final
    return reply.text


def strict(reply: Reply, final: bool) -> int:
    del final
    try:
        return int(reply.text)
    except ValueError as error:
        raise BadReply(f"{reply.text!r} is no number") from error


def ask(llm: LLMClient, what: Request | None = None) -> Success[str] | Failure:
    return asyncio.run(llm.complete(CallSpec(what or request(), text)))


def test_a_second_call_is_replayed_not_paid(fake: FakeEngine, tmp_path: Path) -> None:
    first = make_llm(fake, tmp_path / "j")
    second = make_llm(fake, tmp_path / "j")
    assert ask(first) == ask(second)
    assert len(fake.asked) == 1
    assert [spent.replayed for spent in first.spent + second.spent] == [False, True]


def test_the_key_travels_with_the_value(llm: LLMClient) -> None:
    done = unwrap(ask(llm))
    assert done.calls == [request().key(wire_version="fake-1", model_fingerprint="fake:x")]
    record = llm.journal.get(done.calls[0])
    assert record is not None
    assert record.outcome.reply.text == done.value


def test_a_recorded_failure_is_replayed_until_another_draw_is_asked_for(tmp_path: Path) -> None:
    rules = [Rule(reply="no number", times=2), Rule(reply="7")]
    engine = FakeEngine(rules)

    def run_again(max_resamples: int) -> Success[int] | Failure:
        llm = make_llm(engine, tmp_path / "j")
        return asyncio.run(llm.complete(CallSpec(request(), strict, max_resamples)))

    assert isinstance(run_again(0), Failure)
    assert isinstance(run_again(0), Failure)
    assert len(engine.asked) == 2, "asked, asked once more, and then replayed"
    done = run_again(1)
    assert isinstance(done, Success)
    assert done.value == 7
    assert len(done.calls) == 3, "what the failure cost travels with the value"
    assert [asked.sample for asked in engine.asked] == [0, 0, 1]
    assert isinstance(run_again(1), Success)
    assert len(engine.asked) == 3


def test_a_call_that_nobody_answered_is_not_drawn_again(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(fault="down")])
    llm = make_llm(engine, tmp_path / "j")
    failed = asyncio.run(llm.complete(CallSpec(request(), text, 3)))
    assert isinstance(failed, Failure)
    assert len(engine.asked) == 1


def test_another_salt_pays_again(llm: LLMClient, fake: FakeEngine) -> None:
    ask(llm)
    ask(llm, request(salt="fresh"))
    assert len(fake.asked) == 2


def test_one_key_asked_many_times_at_once_is_one_call(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="x", latency_s=0.05)])
    llm = make_llm(engine, tmp_path / "j")

    async def many() -> list[Success[str] | Failure]:
        return await llm.batch([CallSpec(request(), text)] * 20)

    results = asyncio.run(many())
    assert len(engine.asked) == 1
    assert all(unwrap(result).value == "x" for result in results)


def test_a_reply_is_recorded_before_it_is_read(fake: FakeEngine, tmp_path: Path) -> None:
    llm = make_llm(fake, tmp_path / "j")

    def crash(reply: Reply, final: bool) -> str:
        raise RuntimeError(f"{reply.text} {final}")

    with pytest.raises(RuntimeError):
        asyncio.run(llm.complete(CallSpec(request(), crash)))
    assert len(recorded(tmp_path / "j")) == 1


def test_a_cancelled_caller_still_pays_only_once(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="x", latency_s=0.1)])
    llm = make_llm(engine, tmp_path / "j")

    async def cancel() -> None:
        task = asyncio.create_task(llm.complete(CallSpec(request(), text)))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.15)

    asyncio.run(cancel())
    assert unwrap(ask(make_llm(engine, tmp_path / "j"))).value == "x"
    assert len(engine.asked) == 1


def test_a_failed_check_asks_once_more_with_the_error(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="seven", times=1), Rule(contains="is no number", reply="7")])
    llm = make_llm(engine, tmp_path / "j")
    done = unwrap(asyncio.run(llm.complete(CallSpec(request(), strict))))
    assert done.value == 7
    assert len(done.calls) == len(engine.asked) == 2
    assert [turn.role for turn in engine.asked[1].messages] == ["user", "assistant", "user"]


def test_a_reply_invalid_twice_replays_as_the_same_failure(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="seven")])
    for _ in range(2):
        llm = make_llm(engine, tmp_path / "j")
        failed = asyncio.run(llm.complete(CallSpec(request(), strict)))
        assert isinstance(failed, Failure)
        assert failed.reason == "invalid"
        assert isinstance(failed.error(), BadReply)
    assert len(engine.asked) == 2


@pytest.mark.parametrize("raised", [MemoryError, RecursionError, OverflowError, UnicodeError])
def test_a_reply_whose_reading_ends_badly_is_recorded_and_ends_no_run(
    raised: type[Exception], tmp_path: Path
) -> None:
    def check(reply: Reply, final: bool) -> int:
        del reply, final
        raise raised

    engine = FakeEngine([Rule(reply="[" * 9)])
    for _ in range(2):
        llm = make_llm(engine, tmp_path / "j")
        failed = asyncio.run(llm.complete(CallSpec(request(), check)))
        assert isinstance(failed, Failure)
        assert (failed.reason, raised.__name__ in failed.detail) == ("invalid", True)
    assert len(engine.asked) == 2, "once and once more, and then never again"


def test_a_refusal_is_recorded_and_not_asked_again(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(fault="refused")])
    results = [ask(make_llm(engine, tmp_path / "j")) for _ in range(2)]
    assert results[0] == results[1]
    assert isinstance(results[0], Failure)
    assert results[0].reason == "refused"
    assert len(engine.asked) == 1


def test_a_truncated_reply_is_asked_again_once_with_twice_the_room(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(fault="truncated", times=1), Rule(reply="whole")])
    assert unwrap(ask(make_llm(engine, tmp_path / "j"))).value == "whole"
    assert [asked.max_output_tokens for asked in engine.asked] == [1024, 2048]


@pytest.mark.parametrize(("fault", "kind"), [("rate_limited", RateLimited), ("down", EndpointDown)])
def test_an_unanswered_call_is_not_recorded(fault: str, kind: type, tmp_path: Path) -> None:
    engine = FakeEngine([Rule.model_validate({"fault": fault, "times": 1}), Rule(reply="now")])
    llm = make_llm(engine, tmp_path / "j")
    failed = ask(llm)
    assert isinstance(failed, Failure)
    assert isinstance(failed.error(), kind)
    assert not recorded(tmp_path / "j")
    assert unwrap(ask(llm)).value == "now"


def test_a_batch_keeps_order_and_isolates_failures(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(contains="odd", fault="rejected"), Rule(reply="ok")])
    llm = make_llm(engine, tmp_path / "j")
    asks = [CallSpec(request(f"{'odd' if n % 5 == 3 else 'even'} {n}"), text) for n in range(20)]
    seen: list[tuple[int, int]] = []
    results = asyncio.run(llm.batch(asks, progress=lambda *count: seen.append(count)))
    assert [isinstance(result, Failure) for result in results] == [n % 5 == 3 for n in range(20)]
    assert seen == [(n, 20) for n in range(1, 21)]


@pytest.mark.parametrize(("fault", "kind"), [("rejected", TooManyFailures), ("down", EndpointDown)])
def test_a_batch_fails_above_the_stated_share(fault: str, kind: type, tmp_path: Path) -> None:
    rule = Rule.model_validate({"contains": "bad", "fault": fault})
    llm = make_llm(FakeEngine([rule, Rule(reply="ok")]), tmp_path / "j")
    asks = [CallSpec(request(f"{'bad' if n < 3 else 'good'} {n}"), text) for n in range(5)]
    with pytest.raises(kind, match="3 of 5 items failed"):
        asyncio.run(llm.batch(asks, max_failed=0.5))
    assert len(recorded(tmp_path / "j")) == 2


def test_concurrency_is_bounded(tmp_path: Path) -> None:
    class Counting(FakeEngine):
        now = most = 0

        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return await super().complete(request, on_attempt)

    engine = Counting([Rule(reply="x")])
    llm = make_llm(engine, tmp_path / "j")
    llm.in_flight = InFlightLimiter(4)
    asyncio.run(llm.batch([CallSpec(request(str(n)), text) for n in range(30)]))
    assert engine.most == 4


def test_nothing_of_a_call_stays_once_it_has_ended(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(contains="down", fault="down"), Rule(reply="x")])
    llm = make_llm(engine, tmp_path / "j")
    asks = [CallSpec(request(f"{'' if n % 3 else 'down '}{n}"), text) for n in range(1_000)]

    async def twice() -> int:
        await llm.batch(asks, max_failed=1.0)
        return sum(isinstance(one, Failure) for one in await llm.batch(asks, max_failed=1.0))

    assert asyncio.run(twice()) == 334
    assert not llm._calls
    assert llm.in_flight.n_in_flight == 0


def test_the_builtin_tier_is_not_recorded(tmp_path: Path) -> None:
    llm = make_llm(Builtin(), tmp_path / "j", endpoint="builtin")
    done = unwrap(ask(llm, request("Rivers flow. Birds fly.", model="builtin", purpose="chat")))
    assert done.calls == []
    assert not recorded(tmp_path / "j")


def test_the_record_holds_usage_price_and_attempts(tmp_path: Path) -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    llm = make_llm(FakeEngine([Rule(reply="x", usage=usage)]), tmp_path / "j")
    priced = {"fake": {"dialect": "fake", "usd_per_mtok": [0.25, 0.75]}}
    llm.settings = type(llm.settings).model_validate({"endpoints": priced})
    record = llm.journal.get(unwrap(ask(llm)).calls[0])
    assert record is not None
    assert record.usd == 1.0
    assert record.usage == usage
    assert [attempt.status for attempt in record.attempts] == ["ok"]
    assert record.started_s <= record.ended_s


def test_an_unpriced_call_costs_none(llm: LLMClient) -> None:
    ask(llm)
    assert [spent.usd for spent in llm.spent] == [None]


def test_a_budget_refuses_before_the_call(fake: FakeEngine, tmp_path: Path) -> None:
    llm = make_llm(fake, tmp_path / "j")
    poor = Account(budget=Budget(0.0))
    failed = asyncio.run(
        llm.complete(CallSpec(request(), lambda reply, _: reply.text, account=poor))
    )
    assert isinstance(failed, Failure)
    assert isinstance(failed.error(), OverBudget)
    assert not fake.asked


def test_calls_of_another_process_count_as_replayed(fake: FakeEngine, tmp_path: Path) -> None:
    keys = unwrap(ask(make_llm(fake, tmp_path / "j"))).calls
    later = make_llm(fake, tmp_path / "j")
    [call] = later.calls([*keys, *keys, "f" * 64])
    assert call.replayed
    assert call.key == keys[0]


def test_no_key_is_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer
) -> None:
    monkeypatch.setenv("KEY_A", "canary-123")
    endpoint = Endpoint(dialect="openai", base_url=server.url, key_env="KEY_A")
    llm = make_llm(OpenAI(endpoint, name="local", deadline_s=60), tmp_path / "j", endpoint="l")
    llm.settings = Settings(endpoints={"l": endpoint})
    server.faults.append("500")
    unwrap(ask(llm, request(model="l:tiny")))
    assert server.authorizations == ["Bearer canary-123"] * 2
    content = b"".join(p.read_bytes() for p in (tmp_path / "j").rglob("*") if p.is_file())
    assert b"InternalServerError" in content
    assert b"canary" not in content


def test_a_reply_that_cannot_be_recorded_is_used_all_the_same(
    fake: FakeEngine, tmp_path: Path
) -> None:
    llm = make_llm(fake, f"file://{tmp_path / 'j'}")
    (tmp_path / "j" / "calls").write_text("in the way")
    assert unwrap(ask(llm)).value
    assert not llm.journal.durable


def test_a_reply_without_usage_costs_nobody_knows_what(tmp_path: Path) -> None:
    class Silent(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            outcome = await super().complete(request, on_attempt)
            assert isinstance(outcome, Answered)
            return Answered(reply=outcome.reply.model_copy(update={"usage": None}))

    llm = make_llm(Silent([Rule(reply="x")]), tmp_path / "j")
    priced = {"fake": {"dialect": "fake", "usd_per_mtok": [1, 1]}}
    llm.settings = type(llm.settings).model_validate({"endpoints": priced})
    ask(llm)
    assert [spent.usd for spent in llm.spent] == [None]


def test_what_the_provider_charged_beats_the_price(tmp_path: Path) -> None:
    llm = make_llm(FakeEngine([Rule(reply="x", usd=0.125)]), tmp_path / "j")
    ask(llm)
    assert [spent.usd for spent in llm.spent] == [0.125]


def test_on_a_cluster_what_another_pod_of_the_run_paid_is_paid_now(
    fake: FakeEngine, tmp_path: Path
) -> None:
    keys = unwrap(ask(make_llm(fake, tmp_path / "j"))).calls
    later = make_llm(fake, tmp_path / "j", many_processes=True)
    assert [call.replayed for call in later.calls(keys)] == [False]


def test_a_recorded_call_needs_no_server(tmp_path: Path) -> None:
    class Down(FakeEngine):
        async def preflight(self, model: ModelRef) -> None:
            raise EndpointDown(f"{model} is off")

    unwrap(ask(make_llm(FakeEngine([Rule(reply="x")]), tmp_path / "j")))
    later = make_llm(Down([Rule(reply="x")]), tmp_path / "j")
    assert unwrap(ask(later)).value == "x"
    with pytest.raises(EndpointDown, match="is off"):
        ask(later, request("another"))


def test_where_one_item_raises_the_others_are_ended(tmp_path: Path) -> None:
    class Picky(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            if "bad" in request.messages[0].parts[0].text:
                raise RuntimeError("no")
            await asyncio.sleep(0.05)
            return await super().complete(request, on_attempt)

    engine = Picky([Rule(reply="x")])
    llm = make_llm(engine, tmp_path / "j")
    llm.in_flight = InFlightLimiter(1)
    asks = [CallSpec(request(f"{'bad' if n == 0 else 'good'} {n}"), text) for n in range(5)]

    async def whole() -> None:
        with pytest.raises(RuntimeError):
            await llm.batch(asks)
        await asyncio.wait_for(llm.in_flight.drain(), 5)
        while llm._calls:  # noqa: ASYNC110  (a count, not an event)
            await asyncio.sleep(0)
        assert len(engine.asked) <= 1, "calls that nobody waits for any more are not made"

    asyncio.run(whole())


def test_an_attempt_says_its_status_only() -> None:
    assert set(Attempt.model_fields) == {"number", "started_s", "ended_s", "status"}


def test_a_door_without_journal_pays_every_time(fake: FakeEngine) -> None:
    llm = make_llm(fake, "")
    ask(llm)
    ask(llm)
    assert len(fake.asked) == 2


def test_preflight_is_done_once_per_model(tmp_path: Path) -> None:
    class Counting(FakeEngine):
        checked: ClassVar[list[str]] = []

        async def preflight(self, model: ModelRef) -> None:
            self.checked.append(str(model))
            await asyncio.sleep(0.01)

    llm = make_llm(Counting([Rule(reply="x")]), tmp_path / "j")
    asyncio.run(llm.batch([CallSpec(request(str(n)), text) for n in range(9)]))
    n_by_the_engine_itself = 9
    assert len(Counting.checked) == 1 + n_by_the_engine_itself
