"""A model may never make things worse: what the builtin tier gives for nothing always stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nemoflows import rag
from nemoflows.calls import Request
from nemoflows.engines.builtin import Builtin
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.llm.bound import BoundClient
from nemoflows.rag import escalation
from nemoflows.rag.types import Answer
from nemoflows.search import build_index
from nemoflows.types import Finding, Index, ModelRef, Policy
from tests.support import make_llm
from tests.test_rag import quoting

MODEL = ModelRef.model_validate("fake:x")
ELBE = "How long is the Elbe?"


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Index:
    return build_index(str(corpus), str(tmp_path / "index"))


def client(answer: Callable[[Request], str], folder: Path) -> BoundClient:
    return BoundClient(make_llm(FakeEngine(answer=answer), folder / "j"), MODEL)


def but(purpose: str, reply: str) -> Callable[[Request], str]:
    """Return a model that is sensible but at one step."""
    return lambda request: reply if request.purpose == purpose else quoting(request)


def choosing(part: str) -> Callable[[Request], str]:
    """Return a model that chooses the unit that holds some words."""

    def answer(request: Request) -> str:
        if request.purpose != "extract":
            return quoting(request)
        marks = [
            f"{shown.id}.{n}"
            for shown in request.messages[0].parts
            for n, (start, end) in enumerate(shown.units, 1)
            if part and part in shown.text[start:end]
        ]
        return json.dumps({"quotes": marks[:1]})

    return answer


def researched(own: BoundClient, index: Index, question: str = ELBE) -> Finding:
    [found] = asyncio.run(rag.research([question], index=index, client=own, k=4, hops=1))
    return found


def answered(own: BoundClient, index: Index, question: str = ELBE, n: int = 2) -> Answer:
    async def flow() -> Answer:
        plan = await rag.plan_research(question, client=own, n=n)
        found = await rag.research(plan.questions, index=index, client=own, k=4, hops=1)
        written = await rag.synthesise(question, found, client=own)
        return written.model_copy(update={"plan": plan})

    return asyncio.run(flow())


@pytest.mark.parametrize("reply", ["not json", '{"quotes": ["P9.9"]}', '{"quotes": 7}', ""])
def test_unusable_quotes_are_the_builtin_tiers_and_marked(
    reply: str, index: Index, tmp_path: Path
) -> None:
    found = researched(client(but("extract", reply), tmp_path), index)
    assert "1,094" in found.evidence[0].quote
    assert (found.evidence[0].calls, found.summary) == ([], "It is 1,094 kilometres long.")
    assert "fake:x gave nothing usable" in found.low_confidence
    assert len(found.calls) == 2, "what was paid in vain is counted"
    [handed] = escalation.to_escalate([found], Policy.model_validate({"frontier": "fake:y"}))
    assert (handed.gate, handed.calls) == ("integrity", found.calls)


def test_what_a_model_found_is_not_replaced_by_what_stands_in(index: Index, tmp_path: Path) -> None:
    near = researched(client(choosing("Giant Mountains"), tmp_path / "a"), index)
    far = researched(client(but("extract", "?"), tmp_path / "b"), index)
    [kept] = escalation.merged([near], [far])
    assert (kept.evidence, kept.stand_in) == (near.evidence, "")
    assert set(kept.calls) == {*near.calls, *far.calls}


@pytest.mark.parametrize("step", ["plan", "extract", "summarise", "synthesise"])
def test_no_run_ends_without_the_answer_that_costs_nothing(
    step: str, index: Index, tmp_path: Path
) -> None:
    found = answered(client(but(step, "no json"), tmp_path), index)
    assert found.citations
    quotes = [each.quote for each in found.citations]
    assert "1,094" in " ".join([*quotes, *(e.quote for e in found.findings[0].evidence)])
    assert "gave no" in str(found), "and the terminal says so"


def test_where_every_reply_is_unusable_the_builtin_answer_stands(
    index: Index, tmp_path: Path
) -> None:
    found = answered(client(lambda _: "Sorry.", tmp_path / "a"), index)
    free = BoundClient(make_llm(Builtin(), tmp_path / "b", endpoint="builtin"), ModelRef())
    assert found.text == answered(free, index).text
    assert "low confidence: fake:x gave nothing usable" in str(found)
    assert found.plan is not None
    assert found.plan.questions == [ELBE]


def test_an_engine_that_refuses_for_good_still_ends_the_run(index: Index, tmp_path: Path) -> None:
    own = BoundClient(make_llm(FakeEngine([Rule(fault="rejected")]), tmp_path / "j"), MODEL)
    with pytest.raises(Exception, match="1 of 1"):
        researched(own, index)


def test_the_builtin_tiers_choice_is_in_the_evidence_and_agreement_is_trusted(
    index: Index, tmp_path: Path
) -> None:
    found = researched(client(choosing("1,094"), tmp_path), index)
    assert found.low_confidence == ""
    first, *others = found.evidence
    assert (first.builtin, bool(first.calls)) == (True, True)
    assert all(each.builtin and not each.calls for each in others)


def test_disagreement_is_a_doubt_that_goes_to_the_next_tier(index: Index, tmp_path: Path) -> None:
    other = researched(client(choosing("Giant Mountains"), tmp_path), index)
    assert "puts" in other.low_confidence
    assert "1,094" in " ".join(each.quote for each in other.evidence[1:])
    assert [each.reason for each in escalation.to_escalate(
        [other], Policy.model_validate({"efficient": "fake:x", "frontier": "fake:y"})
    )] == [other.low_confidence]  # fmt: skip


def test_a_model_that_finds_nothing_is_doubted_where_the_builtin_tier_does(
    index: Index, tmp_path: Path
) -> None:
    found = researched(client(choosing(""), tmp_path), index)
    assert found.not_found is None
    assert all(each.builtin and not each.calls for each in found.evidence)
    assert "found nothing that helps" in found.low_confidence


def test_the_question_is_always_researched_and_near_duplicates_once(tmp_path: Path) -> None:
    told = ["how long is the ELBE", "How long are the Elbe?", "Where does it rise?"]
    own = client(but("plan", json.dumps({"questions": told})), tmp_path)
    plan = asyncio.run(rag.plan_research(ELBE, client=own, n=4))
    assert plan.questions == [ELBE, "Where does it rise?"]


def test_one_agent_asks_for_no_plan(tmp_path: Path) -> None:
    engine = FakeEngine(answer=quoting)
    own = BoundClient(make_llm(engine, tmp_path / "j"), MODEL)
    assert asyncio.run(rag.plan_research(ELBE, client=own, n=1)).questions == [ELBE]
    assert not engine.asked


def test_not_found_shows_the_nearest_passages_and_the_next_step(
    index: Index, tmp_path: Path
) -> None:
    free = BoundClient(make_llm(Builtin(), tmp_path / "b", endpoint="builtin"), ModelRef())
    told = str(answered(free, index, "Who swam through the Elbe at midnight in a red barrel?"))
    assert "Nothing in the corpus" in told
    assert "nearest: " in told
    assert "Elbe" in told.partition("nearest: ")[2]
    assert "--policy" in told
