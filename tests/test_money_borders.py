"""What an adversary found about budgets, gates and reports, each held by a test."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows import rag
from nemoflows.calls import Outcome, Request
from nemoflows.engines.base import OnAttempt
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.history import CallHistory
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.money.budgets import Account, Budget
from nemoflows.money.intervals import ratio_interval
from nemoflows.money.ledger import fold
from nemoflows.money.prices import most_input_tokens
from nemoflows.money.savings import ShadowPair, ShadowSample
from nemoflows.rag import escalation
from nemoflows.reporting import ReportData, ReportNotes, assemble, render
from nemoflows.search import build_index
from nemoflows.settings import Settings, load
from nemoflows.types import Finding, Index, NotFound, Policy
from tests.support import request, run_command
from tests.test_budgets import llm
from tests.test_cascade import BOHEMIA, THINKER, beside_the_point, client


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Index:
    return build_index(str(corpus), str(tmp_path / "index"))


def found(question: str, **more: Any) -> Finding:
    return Finding(question=question, summary="s", **more)


def test_what_the_next_tier_tried_in_vain_still_counts() -> None:
    doubted = found("a", low_confidence="d", calls=["1"])
    vain = Finding(question="a", not_found=NotFound(question="a", reason="r"), calls=["1", "2"])
    [kept] = escalation.merged([doubted], [vain])
    assert (kept.summary, kept.calls) == ("s", ["1", "2"])


def test_a_stand_in_replaces_no_finding_of_the_same_question() -> None:
    real, stand_in = found("a", calls=["1"]), found("a", budget_note="no money", calls=["2"])
    for both in ([real, stand_in], [stand_in, real]):
        [kept] = escalation.merged(both, [])
        assert not kept.budget_note
        assert set(kept.calls) == {"1", "2"}


def test_an_earlier_steps_cut_off_attempts_count_in_the_next_one(tmp_path: Path) -> None:
    made = llm(FakeEngine([Rule(reply="x", fault="hang")]), tmp_path)
    account = Account(
        scope="first", budget=made.history.open_budget(1.0, scope="first", call_keys=[])
    )

    async def cut_off() -> None:
        async with asyncio.timeout(0.1):
            await made.complete(
                CallSpec(request("a"), lambda reply, _: reply.text, account=account)
            )

    with pytest.raises(TimeoutError):
        asyncio.run(cut_off())
    [attempt] = made.in_doubt()
    later = made.history.open_budget(1.0, scope="second", call_keys=[attempt.key])
    assert later.in_doubt_usd == pytest.approx(attempt.reserved_usd)
    assert made.history.open_budget(1.0, scope="other", call_keys=[]).used_usd == 0.0


class Batches(FakeEngine):
    """An engine whose calls go on without the process."""

    def recorded(self, key: str) -> None:
        assert key


def test_a_resumed_batch_run_knows_what_it_spent(tmp_path: Path) -> None:
    for root in (str(tmp_path / "near"), "memory://budget-of-batches"):
        made = llm(Batches([Rule(reply="x", usd=0.01)]), tmp_path / "other")
        made.journal = Journal(root, run="test")
        made.history = CallHistory(made.journal, many_processes=False)
        account = Account(scope="s", budget=Budget(1.0))
        asyncio.run(
            made.complete(CallSpec(request("a"), lambda reply, _: reply.text, account=account))
        )
        again = llm(Batches([Rule(reply="x")]), tmp_path / "other")
        again.journal = Journal(root, run="test")
        again.history = CallHistory(again.journal, many_processes=False)
        assert again.history.open_budget(1.0, scope="s", call_keys=[]).used_usd == pytest.approx(
            0.01
        ), root


def only(index: Index, own: BoundClient, question: str = BOHEMIA) -> Finding:
    return asyncio.run(rag.research([question], index=index, client=own, k=4, hops=1))[0]


def test_a_budget_that_ends_on_the_rung_takes_no_paid_finding_away(
    index: Index, tmp_path: Path
) -> None:
    plain, engine = client(beside_the_point, tmp_path / "a", model=THINKER)
    before = only(index, BoundClient(plain.llm, plain.model, thinking="off"))
    worst = max(plain.llm.worst_usd(asked) or 0.0 for asked in engine.asked)
    for share in (1.0, 1.2, 1.5, 2.0, 2.5):
        own, _ = client(
            beside_the_point, tmp_path / f"{share}", model=THINKER, cap_usd=share * worst
        )
        kept = only(index, own)
        assert kept.not_found is None
        if not kept.budget_note and kept.low_confidence:
            assert [quote.quote for quote in kept.evidence] == [q.quote for q in before.evidence]


def test_a_failure_on_the_rung_takes_no_finding_away(index: Index, tmp_path: Path) -> None:
    own, engine = client(beside_the_point, tmp_path, model=THINKER)
    complete_as_before = engine.complete

    async def fails_when_it_thinks(asked: Request, on_attempt: OnAttempt) -> Outcome:
        thinks = asked.thinking is not None and asked.thinking.mode == "budget"
        if thinks and asked.purpose == "summarise":
            return await FakeEngine([Rule(fault="down")]).complete(asked, on_attempt)
        return await complete_as_before(asked, on_attempt)

    engine.complete = fails_when_it_thinks  # type: ignore[method-assign,assignment]
    kept = only(index, own)
    assert kept.not_found is None
    assert kept.low_confidence
    assert len(kept.calls) == 4


def test_the_rung_is_not_taken_without_passages(index: Index, tmp_path: Path) -> None:
    own, engine = client(beside_the_point, tmp_path, model=THINKER)
    assert only(index, own, "Zyzzyva qwertyuiop?").not_found is not None
    assert not engine.asked


def test_the_calls_of_a_vain_rung_are_handed_on(index: Index, tmp_path: Path) -> None:
    def nothing(asked: Request) -> str:
        return '{"quotes": []}' if asked.purpose == "extract" else beside_the_point(asked)

    own, _ = client(nothing, tmp_path, model=THINKER)
    kept = only(index, own)
    [handed] = escalation.to_escalate([kept], Policy())
    assert len(kept.calls) == 4
    assert handed.calls == kept.calls


def test_one_budgets_refusal_is_not_anothers(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(reply="fine", usd=0.0001)])
    made = llm(engine, tmp_path)

    async def work() -> list[Success[str] | Failure]:
        asks = [
            CallSpec(request("a"), lambda reply, _: reply.text, account=Account(budget=Budget(cap)))
            for cap in (0.0, 1.0)
        ]
        return list(await asyncio.gather(*(made.complete(ask) for ask in asks)))

    poor, rich = asyncio.run(work())
    assert isinstance(poor, Failure)
    assert isinstance(rich, Success)
    assert len(engine.asked) == 1


def test_an_engine_that_breaks_without_a_word_leaves_an_attempt_in_doubt(tmp_path: Path) -> None:
    class Breaks(FakeEngine):
        async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
            raise ZeroDivisionError(request.purpose, on_attempt)

    made = llm(Breaks([Rule(reply="x")]), tmp_path)
    budget = Budget(1.0)
    ask = CallSpec(request("a"), lambda reply, _: reply.text, account=Account(budget=budget))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(made.complete(ask))
    [attempt] = made.in_doubt()
    assert attempt.why == "ZeroDivisionError"
    assert budget.in_doubt_usd == pytest.approx(attempt.reserved_usd)
    assert budget.reserved_usd == pytest.approx(0.0)


@pytest.mark.parametrize("run", ["../../x", "a/../../b", "/etc/x"])
def test_the_id_of_a_run_leads_nowhere_else(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_RUN", run)
    with pytest.raises(Exception, match="leads elsewhere"):
        load()


@pytest.mark.parametrize(
    "arguments",
    [{"hf_token": "canary"}, {"api_key": "canary"}, {"model": "s3://user:canary@bucket/x"}],
)
def test_engine_arguments_hold_no_key(
    arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_HARDWARE", json.dumps({"engine_arguments": arguments}))
    with pytest.raises(Exception, match=next(iter(arguments))) as refused:
        load()
    assert "canary" not in str(refused.value)


def test_a_call_that_the_run_made_anyway_is_not_the_shadows(tmp_path: Path) -> None:
    made = llm(FakeEngine([Rule(reply="x", usd=0.01)]), tmp_path)
    account = Account(task="escalate", tier="frontier")
    done = asyncio.run(
        made.complete(CallSpec(request("a"), lambda reply, _: reply.text, account=account))
    )
    [key] = done.calls
    told: dict[str, Any] = {"key": "e", "shadow": key, "purpose": "extract", "agreement": 1.0}
    told |= dict.fromkeys(("input_tokens", "output_tokens"), 1)
    told |= {"shadow_input_tokens": 1, "shadow_output_tokens": 1, "shadow_usd": 0.01}
    sample = ShadowSample(share=1.0, n_calls=1, pairs=[ShadowPair.model_validate(told)])
    notes = ReportNotes(call_keys=[key], shadow=sample)
    shown = assemble(notes, made.history, made.settings)
    assert [call.tier for call in shown.calls] == ["frontier"]
    assert shown.measuring == set()
    assert "tshadow" not in render(shown).partition("<body>")[2]


def test_one_broken_file_hides_no_other_run(tmp_path: Path) -> None:
    journal = tmp_path / "home" / ".nemoflows" / "journal"
    made = llm(FakeEngine([Rule(reply="x", usd=0.01)]), journal, run="whole")
    asyncio.run(made.complete(CallSpec(request("a"), lambda reply, _: reply.text)))
    for name, text in {
        "stories/old.json": '{"x": 1}',
        "gpus/whole/w-e.json": '{"model": "half',
        "intents/odd/w-0.jsonl": '{"kind": "begun", "key": "k"}\n',
    }.items():
        (journal / name).parent.mkdir(parents=True, exist_ok=True)
        (journal / name).write_text(text, "utf-8")
    done = run_command("nemoflows", "runs", env={"HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stdout
    assert "0.010000" in next(line for line in done.stdout.splitlines() if "whole" in line)
    assert "cannot be read" in next(line for line in done.stdout.splitlines() if "old" in line)
    one = run_command("nemoflows", "report", "old", env={"HOME": str(tmp_path / "home")})
    assert one.returncode == 0, "what its journal holds is shown all the same"
    assert "Traceback" not in one.stdout


def test_every_byte_of_a_schema_may_be_a_token() -> None:
    schema = {"type": "object", "description": "河" * 5_000}
    assert most_input_tokens(request("a", json_schema=schema)) >= 15_000


def test_an_interval_holds_its_estimate_whatever_the_outliers() -> None:
    kept = ratio_interval([1.0] * 60, [0.0] * 59 + [1.0])
    assert kept.low is not None
    assert kept.high is not None
    assert kept.low <= kept.value < kept.high


def test_a_loss_is_called_one() -> None:
    html = render(ReportData(calls=[], ledger=fold([])))
    assert "$-" not in html
    assert Settings(run="a/b").run == "a/b"


@pytest.mark.parametrize(
    "text",
    [
        "{half",
        '{"text_config": null}',
        '{"hidden_size": 8, "vocab_size": 8, "num_hidden_layers": 0, "num_attention_heads": 2}',
        '{"hidden_size": 8, "vocab_size": 8, "num_hidden_layers": 2, "num_attention_heads": 0}',
        '{"hidden_size": -8, "vocab_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}',
    ],
)
def test_an_odd_config_of_a_model_is_a_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, "utf-8")
    done = run_command("nemoflows", "gpus", "--model", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert "config.json" in done.stdout


@pytest.mark.parametrize(
    "setting",
    [
        {"NEMOFLOWS_POLICY": '{"embedder": "dense:/home/me/model"}'},
        {"NEMOFLOWS_EFFICIENT": "fake:/home/me/script.json"},
        {"NEMOFLOWS_HARDWARE": '{"weights": "/var/cache/nemoflows/../../../home/me"}'},
        {
            "NEMOFLOWS_ENDPOINTS": '{"near": {"dialect": "openai", "base_url": "http://0.0.0.0/v1"}}',
            "NEMOFLOWS_EFFICIENT": "near:x",
        },
    ],
)
def test_no_path_of_this_machine_is_packaged(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nemoflows.tasks.flyte.binding import refuse_what_stays_here

    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match=r"path of this machine|in a pod is the pod"):
        refuse_what_stays_here(load(), load().default_policy())
