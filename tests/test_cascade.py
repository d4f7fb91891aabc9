"""The cascade: what a gate doubts is escalated, thinking is a rung, a budget ends it softly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nemoflows import rag
from nemoflows.calls import Request
from nemoflows.engines.builtin.confidence import SURE, confidence
from nemoflows.engines.fake import FakeEngine
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.models import Endpoint
from nemoflows.money.budgets import Account, Budget
from nemoflows.rag import escalation, gates
from nemoflows.search import build_index
from nemoflows.settings import Settings
from nemoflows.types import Evidence, Finding, Index, ModelRef, Passage, Policy
from tests.loopback import ModelServer
from tests.support import as_policy, run_command
from tests.test_rag import quoting

T = TypeVar("T")
PRICED = Endpoint(dialect="fake", usd_per_mtok=(1.0, 1.0))
THINKER = "near:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"
QUESTION = "How long is the Elbe?"


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Index:
    return build_index(str(corpus), str(tmp_path / "index"))


def client(
    answer: Callable[[Request], str],
    folder: Path,
    *,
    model: str = "near:x",
    cap_usd: float | None = None,
) -> tuple[BoundClient, FakeEngine]:
    engine = FakeEngine(answer=answer)
    settings = Settings(run="test", endpoints={"near": PRICED})
    llm = LLMClient(
        Engines(settings, given={"near": engine}),
        Journal(str(folder / "j"), run="test"),
        settings=settings,
    )
    account = Account(task="t", tier="efficient", budget=Budget(cap_usd))
    return BoundClient(llm, ModelRef.model_validate(model), account=account), engine


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def research(index: Index, own: BoundClient, question: str = QUESTION) -> Finding:
    [found] = run(rag.research([question], index=index, client=own, k=4, hops=1))
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
    own, _ = client(beside_the_point, tmp_path)
    found = research(index, own, BOHEMIA)
    assert found.not_found is None
    assert "first and the builtin tier" in found.low_confidence
    [handed] = escalation.to_escalate([found], Policy())
    assert (handed.question, handed.gate, handed.reason) == (
        BOHEMIA,
        "coverage",
        found.low_confidence,
    )
    assert handed.calls == found.calls


def test_thinking_is_a_rung_below_the_next_tier(index: Index, tmp_path: Path) -> None:
    plain, asked = client(beside_the_point, tmp_path / "a")
    assert research(index, plain, BOHEMIA).low_confidence
    assert all(request.thinking.mode == "off" for request in asked.asked if request.thinking)
    thinker, asked = client(beside_the_point, tmp_path / "b", model=THINKER)
    found = research(index, thinker, BOHEMIA)
    assert not found.low_confidence
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
    own, engine = client(beside_the_point, tmp_path, model=THINKER)
    still = BoundClient(own.llm, own.model, thinking="off")
    assert research(index, still, BOHEMIA).low_confidence
    assert len(engine.asked) == 2


def test_an_empty_list_costs_nothing(index: Index, tmp_path: Path) -> None:
    own, engine = client(quoting, tmp_path)
    assert run(rag.escalate([], index=index, client=own, k=4, hops=1)) == []
    assert not engine.asked


def quote(text: str) -> Evidence:
    return Evidence(quote=text, document="d", start=0, end=len(text), passage="p")


def passage(text: str, score: float) -> Passage:
    return Passage(id=text[:9], document="d", start=0, end=len(text), text=text, score=score)


def test_confidence_grows_with_the_lead_of_the_first_quote() -> None:
    answer, other = "The Elbe is 1,094 kilometres long.", "Bread keeps for a week."
    passages = [passage(answer, 9.0), passage(other, 3.0), passage("Rye and wheat.", 2.0)]
    alone = confidence(QUESTION, [quote(answer), quote(other)], passages)
    tied = confidence(QUESTION, [quote(answer), quote(answer)], passages)
    wrong = confidence(QUESTION, [quote(other), quote(answer)], passages)
    assert wrong < tied < alone
    assert alone > SURE > wrong
    assert confidence(QUESTION, [], passages) == 0.0


def test_the_builtin_tier_says_why_it_is_not_sure() -> None:
    told = [
        gates.low_confidence(asked, [quote(said)] * 2, [passage(said, 1.0)] * 2, ModelRef())
        for asked, said in (
            ("When was the weir built?", "The weir was built by Nils Aune."),
            ("Who built the weir?", "The weir was built by Nils Aune."),
        )
    ]
    assert told[0].startswith("The first quote shows no sign of what is asked for")
    assert told[1].startswith("The first quote leads the next one too little: confidence 0.")


def test_the_gate_of_a_model_asks_for_the_questions_terms_alone() -> None:
    model = ModelRef.model_validate("near:x")
    assert gates.low_confidence(QUESTION, [quote("The Elbe is long.")], [], model) == ""
    told = gates.low_confidence(QUESTION, [quote("Bread keeps for a week.")], [], model)
    assert "0% of the question, 60% is wanted" in told
    assert "elb" in told


def test_a_spent_budget_goes_on_without_a_model(index: Index, tmp_path: Path) -> None:
    own, engine = client(quoting, tmp_path, cap_usd=0.0)

    async def flow() -> Any:
        plan = await rag.plan_research(QUESTION, client=own, n=2)
        got = await rag.research(plan.questions, index=index, client=own, k=4, hops=2)
        return plan, await rag.synthesise(QUESTION, got, client=own)

    plan, answer = run(flow())
    assert not engine.asked
    assert "1,094" in answer.citations[0].quote
    for told in (plan.budget_note, answer.budget_note):
        assert "Of the budget of $0.000000" in told
    assert "stopped early" in str(answer)


def test_a_single_step_says_that_a_budget_ended(index: Index, tmp_path: Path) -> None:
    own, engine = client(quoting, tmp_path, cap_usd=0.0)
    passages = run(rag.retrieve(QUESTION, index=index, k=2, llm=own.llm))
    quotes = run(rag.extract(passages, client=own))
    assert not engine.asked
    assert "Of the budget of $0.000000" in quotes.budget_note
    assert [(quote.calls, quote.builtin) for quote in quotes.evidence[:1]] == [([], True)]
    assert run(rag.summarise(quotes, client=own)).budget_note == quotes.budget_note


def test_a_budget_that_ends_half_way_keeps_what_was_paid_for(index: Index, tmp_path: Path) -> None:
    own, _ = client(quoting, tmp_path / "a")
    worst = max(
        own.llm.worst_usd(own.ready(request)) or 0.0
        for request in _requests_of(index, tmp_path / "b")
    )
    poor, engine = client(quoting, tmp_path / "c", cap_usd=1.5 * worst)
    questions = [QUESTION + "?" * number for number in range(64)]
    got = run(rag.research(questions, index=index, client=poor, k=4, hops=1))
    assert all(finding.not_found is None for finding in got)
    noted = [finding for finding in got if finding.budget_note]
    assert 0 < len(engine.asked) < 128
    assert noted
    budget = poor.account.budget
    assert budget.used_usd + budget.reserved_usd <= 1.5 * worst
    assert budget.reserved_usd == pytest.approx(0.0)


def _requests_of(index: Index, folder: Path) -> list[Request]:
    own, engine = client(quoting, folder)
    research(index, own)
    return engine.asked


def test_the_command_stops_softly_and_says_why(
    corpus: Path, tmp_path: Path, server: ModelServer
) -> None:
    env = {
        "HOME": str(tmp_path),
        "NEMOFLOWS_ENDPOINTS": server.endpoints(usd_per_mtok=[100.0, 100.0]),
    }
    how = as_policy(efficient="local:tiny", frontier="local:tiny", budget_usd=0.01)
    words = ["pyflyte", "run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    words += ["--corpus", str(corpus), *how]
    done = run_command(*words, env=env)
    assert done.returncode == 0, done.stdout
    assert "stopped early: Of the budget of $0.010000" in done.stdout
    assert "1,094" in done.stdout
    assert not server.requests


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget_usd": -1}, "budget_usd: Input should be greater than or equal to 0"),
        ({"budget_usd": 1}, "Nobody knows what 'local:tiny' costs"),
    ],
)
def test_a_budget_that_bounds_nothing_is_refused_before_the_first_call(
    corpus: Path, tmp_path: Path, server: ModelServer, more: dict[str, float], words: str
) -> None:
    env = {"HOME": str(tmp_path), "NEMOFLOWS_ENDPOINTS": server.endpoints()}
    how = as_policy(efficient="local:tiny", frontier="local:tiny", **more)
    command = ["pyflyte", "run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    done = run_command(*command, "--corpus", str(corpus), *how, env=env)
    assert done.returncode != 0
    assert words in done.stdout
    assert not server.requests
