"""What an agent reads, how much its models think: sizes, purposes and explicit wishes decide."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from nemoflows import rag
from nemoflows.calls import Part, Request, Thinking, thinking, wire
from nemoflows.calls.contract import request as step_request
from nemoflows.calls.wire import estimate_tokens
from nemoflows.engines.fake import FakeEngine
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadInput, BadModel
from nemoflows.llm.bound import BoundClient, thoughtful
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.rag import escalation, prompts
from nemoflows.rag.quoting import EXTRACT
from nemoflows.rag.types import ContextPolicy, ResearchPlan
from nemoflows.search import build_index, open_index
from nemoflows.typed.prompts import FIELDS
from nemoflows.types import Index, ModelRef
from tests.loopback import ModelServer
from tests.support import as_policy, make_llm, request, run_command

MODEL = ModelRef.model_validate("fake:x")
QUESTIONS = ["How long is the Elbe?", "Where does the Danube rise?", "How long does bread keep?"]


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Index:
    return build_index(str(corpus), str(tmp_path / "index"))


def plan(**changes: Any) -> ResearchPlan:
    return ResearchPlan(question="q", questions=QUESTIONS).model_copy(update=changes)


def decided(policy: ContextPolicy, model: str = "near:x", **changes: Any) -> escalation.Context:
    asked = plan(context_policy=policy, **changes)
    named = ModelRef.model_validate(model)
    return escalation.context(asked, named, n_bytes=30_000, n_passages=10)


def test_agents_search_unless_told_otherwise() -> None:
    found = decided("retrieve")
    assert not found.packs
    assert found.pack_tokens == estimate_tokens(30_000) == 10_001
    assert "10,001" in str(found)
    assert f"{found.retrieve_tokens:,}" in str(found)


def test_a_corpus_is_packed_on_request_and_refused_where_it_does_not_fit() -> None:
    assert decided("pack").packs
    with pytest.raises(BadInput, match=r"10,001 tokens.*context_tokens is 9,999.*retrieve"):
        decided("pack", context_tokens=9_999)


@pytest.mark.parametrize(
    ("changes", "packs"),
    [
        ({"k": 10, "hops": 1}, True),  # searching reads as much as there is
        ({"k": 5, "hops": 2}, True),
        ({"k": 8, "hops": 1}, False),  # searching reads less
        ({"k": 10, "hops": 2, "context_tokens": 9_999}, False),  # does not fit
    ],
)
def test_auto_packs_where_that_takes_no_more_tokens(
    changes: dict[str, Any], *, packs: bool
) -> None:
    assert decided("auto", **changes).packs is packs


def test_auto_searches_on_the_builtin_tier() -> None:
    assert not decided("auto", "builtin", k=10, hops=2).packs
    assert decided("pack", "builtin").packs


def test_every_passage_comes_in_the_order_of_the_documents(index: Index) -> None:
    passages = open_index(index).passages()
    assert len(passages) == index.n_passages
    assert [p.document for p in passages] == sorted(p.document for p in passages)
    for passage in passages:
        text = open_index(index).document_text(passage.document)
        assert text[passage.start : passage.end] == passage.text
    assert open_index(index).n_bytes == sum(
        len(open_index(index).document_text(name).encode())
        for name in {passage.document for passage in passages}
    )


def reading(asked: Request) -> str:
    if asked.purpose == "extract":
        [first, *_] = [part for part in asked.messages[0].parts if part.kind == "passage"]
        return json.dumps({"quotes": [{"passage": first.id, "quote": first.text[:12]}]})
    return json.dumps({"summary": "So it is."})


def test_packed_agents_read_one_and_the_same_corpus_before_their_question(
    index: Index, tmp_path: Path
) -> None:
    engine = FakeEngine(answer=reading)
    client = BoundClient(make_llm(engine, tmp_path / "j"), MODEL)
    passages = rag.packed(index)
    found = asyncio.run(
        rag.research(QUESTIONS, index=index, client=client, k=2, hops=2, corpus=passages)
    )
    assert all(finding.evidence and not finding.queries for finding in found)
    extracts = [asked for asked in engine.asked if asked.purpose == "extract"]
    assert len(extracts) == len(QUESTIONS), "nobody searches again"
    beginnings = {wire.shared_text(asked) for asked in extracts}
    assert len(beginnings) == 1
    assert len({wire.prefix_key(asked) for asked in extracts}) == 1
    for asked, question in zip(extracts, QUESTIONS, strict=True):
        kinds = [part.kind for part in asked.messages[0].parts]
        assert kinds == ["passage"] * len(passages) + ["question", "text"]
        assert asked.shared_parts == len(passages)
        assert asked.messages[0].parts[len(passages)].text == question


def test_a_shared_prefix_changes_no_key() -> None:
    parts = [Part(kind="passage", id="P1", text="x"), Part(text="q")]
    plain = request(messages=[{"parts": [part.model_dump() for part in parts]}])
    assert plain.key() == plain.model_copy(update={"shared_parts": 1}).key()


def test_a_server_with_too_small_a_context_is_refused_before_the_first_call() -> None:
    with ModelServer(models=("tiny",)) as server:
        server.context_tokens = 4_096
        endpoint = Endpoint(dialect="openai", base_url=server.url)
        engine = OpenAI(endpoint, name="near", deadline_s=60)
        near = ModelRef.model_validate("near:tiny")

        async def work(policy: ContextPolicy) -> ResearchPlan:
            llm = make_llm(engine, "", endpoint="near")
            client = BoundClient(llm, near)
            return await rag.plan_research(
                "How long is the Elbe?", client=client, n=2, context_policy=policy, others=[near]
            )

        with pytest.raises(BadModel, match=r"4,096 tokens.*131,072.*Lower context_tokens"):
            asyncio.run(work("pack"))
        assert server.requests == []


def test_each_step_of_the_flow_has_its_own_thinking() -> None:
    steps = [prompts.PLAN, EXTRACT, prompts.REWRITE, prompts.SUMMARISE, prompts.SYNTHESISE]
    for step in [*steps, FIELDS]:
        asked = step_request(step, [], "words", {})
        assert thoughtful(asked, "auto").thinking == step.thinking
    assert thoughtful(request(purpose="chat"), "auto").thinking is None
    assert EXTRACT.thinking.mode == prompts.REWRITE.thinking.mode == "off"
    assert prompts.SYNTHESISE.thinking.budget_tokens > 0


@pytest.mark.parametrize("policy", ["off", "on"])
def test_an_explicit_wish_holds_for_every_purpose(policy: Any) -> None:
    for purpose in ("plan", "extract", "chat"):
        assert thoughtful(request(purpose=purpose), policy).thinking == Thinking(mode=policy)


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("anthropic:claude-opus-5-5", True),
        ("anthropic:claude-fable-5-1", True),
        ("anthropic:claude-haiku-5-5", False),
        ("openai:gpt-5-mini", True),
        ("openai:gpt-6-luna", False),
        ("openai:gpt-4.1", False),
        ("nim:nvidia/nemotron-3-nano-30b-a3b", False),
        ("builtin", False),
    ],
)
def test_an_explicit_off_is_refused_where_a_model_always_thinks(
    model: str, *, refused: bool
) -> None:
    named = ModelRef.model_validate(model)
    endpoint = BUILT_IN[named.endpoint]
    thinking.refuse_thinking(named, endpoint, "auto")
    thinking.refuse_thinking(named, endpoint, "on")
    if refused:
        with pytest.raises(BadModel, match=r"always thinks.*no call was made"):
            thinking.refuse_thinking(named, endpoint, "off")
    else:
        thinking.refuse_thinking(named, endpoint, "off")


def test_the_workflow_packs_thinks_and_shows_both_costs(corpus: Path) -> None:
    with ModelServer(models=("tiny",)) as server:
        done = run_command(
            "pyflyte", "run", "workflows/rag.py", "answer_question",
            "--question", QUESTIONS[0], "--corpus", corpus,
            *as_policy(efficient="near:tiny", frontier="near:tiny", thinking="on"),
            "--context_policy", "pack", "--context_tokens", "20000",
            env={"NEMOFLOWS_ENDPOINTS": server.endpoints("near", dialect="nim")},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert "the corpus is packed" in done.stdout
        bodies = server.requests
    assert {body["chat_template_kwargs"]["enable_thinking"] for body in bodies} == {True}
    [page] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("report:")]
    assert "the corpus is packed" in Path(page).read_text(encoding="utf-8")


def test_an_explicit_off_that_a_model_refuses_ends_the_run_before_any_call(corpus: Path) -> None:
    done = run_command(
        "pyflyte", "run", "workflows/rag.py", "answer_question",
        "--question", QUESTIONS[0], "--corpus", corpus,
        *as_policy(frontier="anthropic:claude-opus-5-5", thinking="off"),
        env={"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "always thinks" in done.stdout


def test_the_policies_are_spelled_in_one_place() -> None:
    assert set(get_args(ContextPolicy)) == {"retrieve", "pack", "auto"}
