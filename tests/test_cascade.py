"""The cascade: gates hand on what they doubt, thinking is a rung, a budget ends it softly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nemoflows import rag
from nemoflows.calls import Request
from nemoflows.engines.registry import Engines
from nemoflows.engines.scripted import Scripted
from nemoflows.journal import Journal
from nemoflows.llm.bound import Desk
from nemoflows.llm.client import Door
from nemoflows.models import Endpoint
from nemoflows.money.budgets import Account, Budget
from nemoflows.rag import escalation, gates
from nemoflows.search import build_index
from nemoflows.settings import Settings
from nemoflows.types import Evidence, Finding, Index, ModelRef, NotFound, Passage
from tests.loopback import ModelServer
from tests.support import run_command
from tests.test_rag import quoting

T = TypeVar("T")
PRICED = Endpoint(dialect="scripted", usd_per_mtok=(1.0, 1.0))
THINKER = "near:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"
QUESTION = "How long is the Elbe?"


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Index:
    return build_index(str(corpus), str(tmp_path / "index"))


def desk(
    answer: Callable[[Request], str],
    folder: Path,
    *,
    model: str = "near:x",
    cap_usd: float | None = None,
) -> tuple[Desk, Scripted]:
    engine = Scripted(answer=answer)
    settings = Settings(run="test", endpoints={"near": PRICED})
    door = Door(
        Engines(settings, given={"near": engine}),
        Journal(str(folder / "j"), run="test"),
        settings=settings,
    )
    account = Account(task="t", tier="efficient", budget=Budget(cap_usd))
    return Desk(door, ModelRef.model_validate(model), account=account), engine


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def research(index: Index, own: Desk, question: str = QUESTION) -> Finding:
    [found] = run(rag.research([question], index=index, desk=own, k=4, hops=1))
    return found


BOHEMIA = "Which river rises in the Giant Mountains of Bohemia?"


def beside_the_point(request: Request) -> str:
    """Quote what does not answer, unless the request thinks."""
    if request.purpose != "extract":
        return quoting(request)
    thinks = request.thinking is not None and request.thinking.mode == "budget"
    passages = [part for part in request.messages[0].parts if part.kind == "passage"]
    quoted = passages if thinks else passages[:1]
    rows = [{"passage": p.id, "quote": p.text if thinks else p.text.split()[-1]} for p in quoted]
    return json.dumps({"quotes": rows})


def test_what_a_gate_doubts_is_kept_and_handed_on(index: Index, tmp_path: Path) -> None:
    own, _ = desk(beside_the_point, tmp_path)
    found = research(index, own, BOHEMIA)
    assert found.not_found is None
    assert "wanted" in found.doubt
    [handed] = escalation.handed_on([found])
    assert (handed.question, handed.gate, handed.reason) == (BOHEMIA, "coverage", found.doubt)
    assert handed.calls == found.calls


def test_thinking_is_a_rung_below_the_next_tier(index: Index, tmp_path: Path) -> None:
    plain, asked = desk(beside_the_point, tmp_path / "a")
    assert research(index, plain, BOHEMIA).doubt
    assert all(request.thinking.mode == "off" for request in asked.asked if request.thinking)
    thinker, asked = desk(beside_the_point, tmp_path / "b", model=THINKER)
    found = research(index, thinker, BOHEMIA)
    assert not found.doubt
    modes = [
        (request.purpose, request.thinking.mode) for request in asked.asked if request.thinking
    ]
    assert modes == [
        ("extract", "off"),
        ("summarise", "off"),
        ("extract", "budget"),
        ("summarise", "budget"),
    ]
    assert len(found.calls) == 4, "the calls of the lower rung were paid for too"


def test_the_rung_is_not_taken_where_the_user_decided_about_thinking(
    index: Index, tmp_path: Path
) -> None:
    own, engine = desk(beside_the_point, tmp_path, model=THINKER)
    still = Desk(own.door, own.model, thinking="off")
    assert research(index, still, BOHEMIA).doubt
    assert len(engine.asked) == 2


def found(question: str, **more: Any) -> Finding:
    return Finding(question=question, summary="s", **more)


def missing(question: str) -> Finding:
    return Finding(question=question, not_found=NotFound(question=question, reason="r"))


def test_what_the_next_tier_found_replaces_what_was_doubted() -> None:
    doubted, sure = found("a", doubt="d"), found("b")
    again = found("a", tier="frontier")
    assert escalation.merged([doubted, sure], [again]) == [again, sure]


@pytest.mark.parametrize("again", [missing("a"), found("a", stopped="no money")])
def test_a_doubted_finding_stands_where_the_next_tier_has_no_better_one(again: Finding) -> None:
    doubted = found("a", doubt="d")
    assert escalation.merged([doubted], [again]) == [doubted]


def test_what_was_not_found_takes_whatever_comes() -> None:
    fallback = found("a", stopped="no money")
    assert escalation.merged([], [missing("a")]) == [missing("a")]
    assert escalation.merged([missing("a")], [fallback]) == [fallback]


def test_nothing_is_handed_on_where_every_gate_is_passed() -> None:
    assert escalation.handed_on([found("a"), found("b")]) == []


def test_an_empty_list_costs_nothing(index: Index, tmp_path: Path) -> None:
    own, engine = desk(quoting, tmp_path)
    assert run(rag.escalate([], index=index, desk=own, k=4, hops=1)) == []
    assert not engine.asked


def quote(text: str) -> Evidence:
    return Evidence(quote=text, document="d", start=0, end=len(text), passage="p")


def passage(text: str, score: float) -> Passage:
    return Passage(id=text[:9], document="d", start=0, end=len(text), text=text, score=score)


def test_sureness_grows_with_the_lead_of_the_first_quote() -> None:
    answer, other = "The Elbe is 1,094 kilometres long.", "Bread keeps for a week."
    passages = [passage(answer, 9.0), passage(other, 3.0), passage("Rye and wheat.", 2.0)]
    alone = gates.sureness(QUESTION, [quote(answer), quote(other)], passages)
    tied = gates.sureness(QUESTION, [quote(answer), quote(answer)], passages)
    wrong = gates.sureness(QUESTION, [quote(other), quote(answer)], passages)
    assert wrong < tied < alone
    assert alone > gates.SURE > wrong
    assert gates.sureness(QUESTION, [], passages) == 0.0


def test_the_gate_of_a_model_asks_for_the_questions_terms_alone() -> None:
    model = ModelRef.model_validate("near:x")
    assert gates.doubt(QUESTION, [quote("The Elbe is long.")], [], model) == ""
    told = gates.doubt(QUESTION, [quote("Bread keeps for a week.")], [], model)
    assert "0% of the question, 60% is wanted" in told
    assert "elb" in told


def test_a_spent_budget_goes_on_without_a_model(index: Index, tmp_path: Path) -> None:
    own, engine = desk(quoting, tmp_path, cap_usd=0.0)

    async def flow() -> Any:
        plan = await rag.plan_research(QUESTION, desk=own, n=2)
        got = await rag.research(plan.questions, index=index, desk=own, k=4, hops=2)
        return plan, await rag.synthesise(QUESTION, got, desk=own)

    plan, answer = run(flow())
    assert not engine.asked
    assert "1,094" in answer.citations[0].quote
    for told in (plan.stopped, answer.stopped):
        assert "Of the budget of $0.000000" in told
    assert "stopped early" in str(answer)


def test_a_budget_that_ends_half_way_keeps_what_was_paid_for(index: Index, tmp_path: Path) -> None:
    own, _ = desk(quoting, tmp_path / "a")
    worst = max(
        own.door.worst_usd(own.ready(request)) or 0.0
        for request in _requests_of(index, tmp_path / "b")
    )
    poor, engine = desk(quoting, tmp_path / "c", cap_usd=1.5 * worst)
    questions = [QUESTION + "?" * number for number in range(64)]
    got = run(rag.research(questions, index=index, desk=poor, k=4, hops=1))
    assert all(finding.not_found is None for finding in got)
    stopped = [finding for finding in got if finding.stopped]
    assert 0 < len(engine.asked) < 128
    assert stopped
    budget = poor.account.budget
    assert budget.used_usd + budget.reserved_usd <= 1.5 * worst
    assert budget.reserved_usd == pytest.approx(0.0)


def _requests_of(index: Index, folder: Path) -> list[Request]:
    own, engine = desk(quoting, folder)
    research(index, own)
    return engine.asked


def test_the_command_stops_softly_and_says_why(
    corpus: Path, tmp_path: Path, server: ModelServer
) -> None:
    env = {
        "HOME": str(tmp_path),
        "NEMOFLOWS_ENDPOINTS": server.endpoints(usd_per_mtok=[100.0, 100.0]),
    }
    tiers = json.dumps({"efficient": "local:tiny", "frontier": "local:tiny"})
    words = ["pyflyte", "run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    words += ["--corpus", str(corpus), "--tiers", tiers, "--budget_usd", "0.01"]
    done = run_command(*words, env=env)
    assert done.returncode == 0, done.stdout
    assert "stopped early: Of the budget of $0.010000" in done.stdout
    assert "1,094" in done.stdout
    assert not server.requests


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget_usd": "-1"}, "no amount of money"),
        ({"budget_usd": "1"}, "Nobody knows what 'local:tiny' costs"),
    ],
)
def test_a_budget_that_bounds_nothing_is_refused_before_the_first_call(
    corpus: Path, tmp_path: Path, server: ModelServer, more: dict[str, str], words: str
) -> None:
    env = {"HOME": str(tmp_path), "NEMOFLOWS_ENDPOINTS": server.endpoints()}
    tiers = json.dumps({"efficient": "local:tiny", "frontier": "local:tiny"})
    command = ["pyflyte", "run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    command += ["--corpus", str(corpus), "--tiers", tiers]
    done = run_command(*command, "--budget_usd", more["budget_usd"], env=env)
    assert done.returncode != 0
    assert words in done.stdout
    assert not server.requests
