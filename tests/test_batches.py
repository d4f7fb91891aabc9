"""Batches over real sockets: gathered, priced, read in any order, resent alone, adopted."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Reply
from nemoflows.engines.anthropic import api, watch
from nemoflows.engines.anthropic.batches import AnthropicBatch
from nemoflows.engines.http import transport
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadModel, BadReply
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.settings import Settings
from nemoflows.storage.opening import open_store
from nemoflows.types import ModelRef
from tests.batches import (
    QUICK,
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
from tests.journals import content
from tests.support import request

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def claude() -> Iterator[BatchServer]:
    with BatchServer(models=("tiny", "claude-opus-5-5")) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "j")


def failures(results: list[Success[str] | Failure]) -> list[Failure]:
    return [found for found in results if isinstance(found, Failure)]


@pytest.mark.parametrize("n", [1, 300])
def test_what_is_asked_together_goes_out_as_one_batch(
    n: int, claude: BatchServer, root: str
) -> None:
    found, llm = run(claude, root, asks(n))
    assert values(found) == expected(n), "though the last request's result comes first"
    assert [len(batch.requests) for batch in claude.batches] == [n]
    assert not claude.requests, "no request goes out by itself"
    assert llm.in_doubt() == []
    assert run(claude, root, asks(n))[1].spent[0].replayed
    assert (len(claude.batches), claude.paid_rows) == (1, n)


def test_a_row_is_named_by_its_key_and_recorded_at_the_price_of_batches(
    claude: BatchServer, root: str
) -> None:
    model = "claude:claude-opus-5-5"
    [done], llm = run(claude, root, asks(1, model=model))
    [row] = claude.batches[0].requests
    assert isinstance(done, Success)
    assert [row["custom_id"]] == done.calls == keys_of([request("question 0", model=model)])
    record = llm.journal.get(done.calls[0])
    assert record is not None
    # USD per million tokens: input 2, cache read 0.10, cache write 2.5, output 10.
    assert record.usd == pytest.approx((100 * 2 + 20 * 0.1 + 10 * 2.5 + 30 * 10) / 1e6)
    assert [attempt.status for attempt in record.attempts] == ["ok"]


def test_a_finished_batch_leaves_only_a_note_that_is_done(claude: BatchServer, root: str) -> None:
    run(claude, root, asks(3))
    assert notes_of(root, "open") == []
    [note] = notes_of(root, "done")
    assert json.loads(note)["batch"] == "msgbatch_1"


def test_what_expired_or_may_pass_is_sent_again_alone(claude: BatchServer, root: str) -> None:
    claude.state.fates.extend(["", "expired", "errored:overloaded_error", "", "errored:api_error"])
    found, llm = run(claude, root, asks(5))
    assert values(found) == expected(5)
    names = [[row["custom_id"] for row in batch.requests] for batch in claude.batches]
    assert [len(batch) for batch in names] == [5, 3]
    assert set(names[1]) == {names[0][1], names[0][2], names[0][4]}
    assert claude.paid_rows == 5
    record = llm.journal.get(names[0][1])
    assert record is not None
    assert [attempt.status for attempt in record.attempts] == ["expired", "ok"]
    assert notes_of(root, "open") == []


def test_a_request_is_sent_in_two_batches_at_most_and_a_rerun_sends_it_again(
    claude: BatchServer, root: str
) -> None:
    claude.state.fates.extend(["", "expired", "expired"])
    found, _ = run(claude, root, asks(2))
    [failed] = failures(found)
    assert (failed.reason, failed.transient) == ("down", True)
    assert "2 batches" in failed.detail
    again, _ = run(claude, root, asks(2))
    assert values(again) == expected(2)
    assert [len(batch.requests) for batch in claude.batches] == [2, 1, 1]
    assert claude.paid_rows == 2


@pytest.mark.parametrize(
    ("fate", "reason", "says"),
    [
        ("errored:invalid_request_error", "rejected", "invalid_request_error"),
        ("errored:too_long", "too_long", "215000 and 200000 tokens"),
        ("errored:billing_error", "rejected", "not billed"),
        ("canceled", "cancelled", "Run the same command again"),
    ],
)
def test_a_row_that_is_refused_is_typed_and_not_sent_again_by_itself(
    fate: str, reason: str, says: str, claude: BatchServer, root: str
) -> None:
    claude.state.fates.extend(["", fate])
    found, _ = run(claude, root, asks(2))
    [failed] = failures(found)
    assert (failed.reason, failed.transient) == (reason, False)
    assert says in failed.detail
    assert "secret" not in failed.detail, "what the provider says may quote the prompt"
    assert len(claude.batches) == 1
    assert values(run(claude, root, asks(2))[0]) == expected(2)
    assert claude.paid_rows == 2


def test_a_billed_reply_of_another_shape_is_not_paid_again(claude: BatchServer, root: str) -> None:
    claude.state.fates.extend(["", "shape"])
    for _ in range(2):
        found, _ = run(claude, root, asks(2))
        [failed] = failures(found)
        assert (failed.reason, failed.transient) == ("invalid", False)
    assert len(claude.batches) == 1


@pytest.mark.parametrize("created", [True, False])
def test_a_creation_that_breaks_off_is_looked_for_before_anything_is_sent_again(
    claude: BatchServer, root: str, *, created: bool
) -> None:
    claude.state.n_polls = 3

    def hook(handler: Any) -> bool:
        claude.add_foreign(6, n_polls=1)
        handler._break(reset=True)
        return True

    claude.state.hooks["created" if created else "create"] = hook
    found, _ = run(claude, root, asks(6))
    assert values(found) == expected(6)
    assert len(claude.batches) == 2, "ours, and the foreign one"
    assert claude.paid_rows == 12


@pytest.mark.parametrize("end", ["hang", "408", "499"])
def test_a_creation_cut_off_after_a_refusal_is_looked_for_too(
    end: str, claude: BatchServer, root: str
) -> None:
    claude.faults.append("429:0")

    def hook(handler: Any) -> bool:
        return bool(handler._fault("hang:6" if end == "hang" else end))

    claude.state.hooks["created"] = hook
    found, _ = run(claude, root, asks(2), deadline_s=3.0)
    assert values(found) == expected(2)
    assert (len(claude.batches), claude.paid_rows) == (1, 2)


@pytest.mark.parametrize("fault", ["500", "529", "reset", "cut", "text", "empty", "html:502"])
def test_a_creation_that_fails_for_now_is_made_again(
    fault: str, claude: BatchServer, root: str
) -> None:
    claude.faults.append(fault)
    found, _ = run(claude, root, asks(2))
    assert values(found) == expected(2)
    assert len(claude.batches) == 1


def test_a_creation_that_keeps_failing_ends_typed(claude: BatchServer, root: str) -> None:
    claude.faults.extend(["reset"] * 9)
    [failed] = failures(run(claude, root, asks(1))[0])
    assert (failed.reason, failed.transient) == ("down", True)
    assert len(claude.faults) == 9 - transport.MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "reason"), [("400", "rejected"), ("429:enforced_spend_limit_reached", "rejected")]
)
def test_a_refused_creation_is_typed_and_leaves_no_note(
    fault: str, reason: str, claude: BatchServer, root: str
) -> None:
    claude.faults.extend([fault] * transport.MAX_ATTEMPTS)
    [failed] = failures(run(claude, root, asks(1))[0])
    assert failed.reason == reason
    assert notes_of(root, "open") == []
    claude.faults.clear()
    assert values(run(claude, root, asks(1))[0]) == expected(1)


def test_a_list_of_another_shape_is_no_empty_list(claude: BatchServer, root: str) -> None:
    def hook(handler: Any) -> bool:
        claude.state.get_faults.extend(["shape", "text", "empty"])
        handler._break(reset=True)
        return True

    claude.state.hooks["created"] = hook
    assert values(run(claude, root, asks(1))[0]) == expected(1)
    assert len(claude.batches) == 1


@pytest.mark.parametrize("fault", ["500", "429", "reset", "cut", "malformed", "shape", "text"])
def test_a_fault_while_looking_or_reading_costs_another_look(
    fault: str, claude: BatchServer, root: str
) -> None:
    claude.state.get_faults.extend([fault, "", fault, "", fault, "", fault])
    found, _ = run(claude, root, asks(3))
    assert values(found) == expected(3)
    assert (len(claude.batches), claude.paid_rows) == (1, 3)


def test_results_that_break_off_are_read_on(claude: BatchServer, root: str) -> None:
    def hook(handler: Any) -> bool:
        handler._break(reset=False)
        return True

    claude.state.hooks["results"] = hook
    found, _ = run(claude, root, asks(40))
    assert values(found) == expected(40)
    assert claude.paid_rows == 40


def leave_running(claude: BatchServer, root: str, *, n: int) -> None:
    """Ask by a batch that does not end, and stop once it was looked at."""
    claude.state.n_polls = 10_000

    async def cut() -> None:
        work = asyncio.create_task(ask_all(batch_client(claude.base, root), asks(n)))
        while not claude.state.looks:  # noqa: ASYNC110  (threads)
            await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cut())


def test_a_silent_api_is_given_up_and_the_batch_picked_up_later(
    claude: BatchServer, root: str
) -> None:
    leave_running(claude, root, n=1)
    claude.state.get_faults.extend(["500"] * 4000)
    [failed] = failures(run(claude, root, asks(1), deadline_s=0.5)[0])
    assert failed.transient
    assert "Batch msgbatch_1 holds this request" in failed.detail
    claude.state.get_faults.clear()
    claude.batches[0].polls_left = 1
    assert values(run(claude, root, asks(1))[0]) == expected(1)
    assert len(claude.batches) == 1


def test_a_batch_that_the_key_cannot_see_is_never_sent_again(
    claude: BatchServer, root: str
) -> None:
    def forget(_: Any) -> bool:
        claude.batches.clear()
        return False

    claude.state.hooks["created"] = forget
    [failed] = failures(run(claude, root, asks(1))[0])
    assert (failed.reason, failed.transient) == ("rejected", False)
    assert "a key of the workspace that sent the batch" in failed.detail
    run(claude, root, asks(1))
    assert claude.batches == []


def test_a_deadline_bounds_an_exchange_and_not_a_batch(claude: BatchServer, root: str) -> None:
    claude.state.n_polls = 60
    began_s = time.monotonic()
    found, _ = run(claude, root, asks(2), deadline_s=2.0)
    assert values(found) == expected(2)
    assert time.monotonic() - began_s > 2.5


def test_a_batch_that_never_ends_is_given_up_after_a_day(
    claude: BatchServer, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LIFE_S", 0.3)
    claude.state.n_polls = 10_000
    [failed] = failures(run(claude, root, asks(1))[0])
    assert (failed.reason, failed.transient) == ("deadline", True)


def test_a_cancelled_run_leaves_the_batch_running(
    claude: BatchServer, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nemoflows"):
        leave_running(claude, root, n=4)
    assert "Batch msgbatch_1 (4 requests) is left running" in caplog.text
    assert not claude.batches[0].cancelled
    claude.batches[0].polls_left = 1
    assert values(run(claude, root, asks(4))[0]) == expected(4)
    assert (len(claude.batches), claude.paid_rows) == (1, 4)


def test_progress_is_told_now_and_then(
    claude: BatchServer, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    claude.state.n_polls = 6
    with caplog.at_level(logging.INFO, "nemoflows"):
        run(claude, root, asks(2))
    assert "Sent 2 requests as batch msgbatch_1 at half price" in caplog.text
    assert "Batch msgbatch_1 (2 requests) is under way" in caplog.text


def test_a_failed_check_is_asked_again_in_a_batch_of_its_own(
    claude: BatchServer, root: str
) -> None:
    def check(reply: Reply, final: bool) -> str:
        if not final:
            raise BadReply("say it again")
        return reply.text

    [done], _ = run(claude, root, [CallSpec(request("question 0", model="claude:tiny"), check)])
    assert isinstance(done, Success)
    assert len(done.calls) == len(claude.batches) == 2


def test_without_a_journal_it_works_and_says_so(
    claude: BatchServer, caplog: pytest.LogCaptureFixture
) -> None:
    claude.state.fates.extend(["", "expired"])
    with caplog.at_level(logging.INFO, "nemoflows"):
        assert values(run(claude, "", asks(2))[0]) == expected(2)
    assert "There is no journal, so a restart would pay again" in caplog.text


def test_notes_on_an_object_store(claude: BatchServer) -> None:
    root = f"memory://{uuid.uuid4()}"
    claude.state.fates.extend(["", "expired"])
    assert values(run(claude, root, asks(2))[0]) == expected(2)
    store = open_store(root)
    assert store.names("batches/claude/open") == []
    assert len(store.names("batches/claude/done")) == 2


def test_nothing_secret_is_written_or_told(
    claude: BatchServer,
    root: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CLAUDE_KEY", "canary-key")
    llm = batch_client(claude.base, root)
    engine = llm.engines.of(ModelRef.model_validate("claude:tiny"))
    assert isinstance(engine, AnthropicBatch)
    way = engine.transport
    way.endpoint = way.endpoint.model_copy(update={"key_env": "CLAUDE_KEY"})
    with caplog.at_level(logging.DEBUG, "nemoflows"):
        assert values(asyncio.run(ask_all(llm, asks(2)))) == expected(2)
    assert set(claude.authorizations) == {"Bearer canary-key"}
    kept = [data.decode() for data in content(root, "batches").values()]
    assert kept
    for text in [*kept, caplog.text]:
        assert "canary" not in text
        assert "question" not in text
    assert all(p.stat().st_mode & 0o077 == 0 for p in Path(root).rglob("*"))


def test_requests_are_parted_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(api.in_parts([], str)) == []
    monkeypatch.setattr(api, "MOST_ROWS", 3)
    assert list(api.in_parts([1, 2, 3, 4], lambda n: n)) == [[1, 2, 3], [4]]
    monkeypatch.setattr(api, "MOST_BYTES", 10)
    assert list(api.in_parts(["a" * 6, "b" * 20, "c"], str)) == [
        ["a" * 6],
        ["b" * 20],
        ["c"],
    ]


def test_the_list_is_read_page_by_page_back_to_what_was_there(
    claude: BatchServer, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE", 2)

    def hook(handler: Any) -> bool:
        for _ in range(5):
            claude.add_foreign(3)
        handler._break(reset=True)
        return True

    for _ in range(9):
        claude.add_foreign(3)
    claude.state.hooks["created"] = hook
    assert values(run(claude, root, asks(3))[0]) == expected(3)
    assert claude.paid_rows == 15 * 3


def test_the_registry_makes_it_and_it_leaves_no_machine_when_offline() -> None:
    engine = Engines(Settings(offline=False)).of(ModelRef.model_validate("anthropic-batch:x"))
    assert isinstance(engine, AnthropicBatch)
    assert engine.resumes
    with pytest.raises(BadModel, match="NEMOFLOWS_OFFLINE"):
        Engines(Settings()).of(ModelRef.model_validate("anthropic-batch:x"))


def test_pauses_are_short_in_tests_only() -> None:
    assert QUICK.longest_s < watch.Pauses().first_s <= watch.Pauses().longest_s
