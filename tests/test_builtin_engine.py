from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nemoflows.calls import Answered, Outcome, Part, Purpose, Reply, Request, Unusable, user, wire
from nemoflows.engines.builtin import Builtin, extract, plan, synthesise
from nemoflows.errors import BadModel
from nemoflows.rag import prompts
from nemoflows.types import Evidence, Finding, ModelRef, Passage
from tests.support import extract_request, read_quotes

BUILTIN = ModelRef()
QUESTION = "Who built the Alder Bridge?"
TEXT = "The Alder Bridge crosses the Wend. The Alder Bridge was built by Jane Holt in 1871."
PASSAGE = Passage(
    id="bridge.md:10-90", document="bridge.md", start=10, end=10 + len(TEXT), text=TEXT
)
OTHER = Passage(id="b", document="b.md", start=0, end=20, text="Trams run at night.", heading="B")


def quote(text: str, document: str = "bridge.md") -> Evidence:
    return Evidence(quote=text, document=document, start=0, end=len(text), heading=document)


def ask(request: Request) -> Outcome:
    return asyncio.run(Builtin().complete(request, lambda _: None))


def answer(request: Request) -> Any:
    outcome = ask(request)
    assert isinstance(outcome, Answered)
    return json.loads(outcome.reply.text)


def chat(text: str, **more: Any) -> Request:
    return Request(model=BUILTIN, messages=[user([Part(text=text)])], **more)


def test_a_plan_has_the_questions_that_the_function_gives() -> None:
    question = "What is the difference between trams and buses?"
    request = prompts.plan(question, n=4)
    assert answer(request) == {"questions": plan(question, 4)}


def test_a_plan_keeps_to_the_number_that_the_schema_allows() -> None:
    question = "What is the difference between trams and buses?"
    assert answer(prompts.plan(question, n=1)) == {"questions": [question]}


def test_quotes_are_verbatim_and_name_their_passage() -> None:
    request = extract_request(QUESTION, [OTHER, PASSAGE])
    quotes = answer(request)["quotes"]
    assert quotes[0] == "P2.2"
    assert {each[:3] for each in quotes} == {"P2."}


def test_the_engine_quotes_what_the_function_quotes() -> None:
    request = extract_request(QUESTION, [PASSAGE])
    quotes = read_quotes(Reply(text=json.dumps(answer(request))), [PASSAGE], final=False)
    assert [(q.start, q.quote) for q in quotes] == [
        (piece.start, piece.quote) for piece in extract(QUESTION, [PASSAGE])
    ]


def test_nothing_found_is_an_empty_list_and_no_error() -> None:
    request = extract_request("What is the capital of Peru?", [PASSAGE])
    assert answer(request) == {"quotes": []}
    assert answer(extract_request(QUESTION, [])) == {"quotes": []}


def test_a_rewritten_query_names_what_was_found() -> None:
    question = "Where was the engineer of the Alder Bridge born?"
    request = prompts.rewrite(question, [PASSAGE], [question])
    assert "Jane Holt" in answer(request)["query"]
    assert answer(prompts.rewrite(question, [], [question])) == {"query": ""}


def test_a_summary_is_made_of_the_quotes() -> None:
    request = prompts.summarise(QUESTION, [quote("Jane Holt built it in 1871.")])
    assert answer(request) == {"summary": "Jane Holt built it in 1871."}


def test_citations_are_the_numbers_that_the_quotes_were_shown_with() -> None:
    findings = [
        Finding(question=QUESTION, evidence=[quote("Jane Holt built the bridge.")]),
        Finding(question="What did it cost?", evidence=[quote("It cost 40,000 pounds.", "b.md")]),
    ]
    request = prompts.synthesise("Who built it, at what cost?", findings)
    assert answer(request)["sentences"] == [
        {"text": "Jane Holt built the bridge.", "citations": [1]},
        {"text": "\n\nIt cost 40,000 pounds.", "citations": [2]},
    ]
    assert synthesise("Who built it, at what cost?", findings) == (
        "Jane Holt built the bridge. [1]\n\nIt cost 40,000 pounds. [2]"
    )


def test_evidence_without_a_finding_is_composed_too() -> None:
    parts = [
        Part(kind="question", text=QUESTION),
        Part(kind="evidence", id="7", text="Jane Holt built the bridge."),
    ]
    request = Request(model=BUILTIN, messages=[user(parts)], purpose="synthesise")
    assert answer(request)["sentences"][0]["citations"] == [7]


def test_a_second_ask_reads_the_data_of_the_first() -> None:
    first = extract_request(QUESTION, [PASSAGE])
    again = wire.ask_again(first, reply_text="{}", error="`quotes` is missing.")
    assert answer(again) == answer(first)


def test_chat_returns_the_sentences_that_say_most() -> None:
    lines = [f"Line {n} tells of rivers and of bridge number {n}." for n in range(9)]
    outcome = ask(chat("# Rivers\n\n" + " ".join(lines)))
    assert isinstance(outcome, Answered)
    kept = [line for line in lines if line in outcome.reply.text]
    assert len(kept) == 3
    assert outcome.reply.text == " ".join(kept)


def test_a_schema_of_the_callers_own_is_refused_as_unusable() -> None:
    outcome = ask(chat("Fill this.", json_schema={"type": "object"}))
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "invalid"


def long_quotes() -> list[Finding]:
    pieces = [
        quote(f"Bridge {word} was built of {word} stone by the {word} river.", f"{word}.md")
        for word in ("red", "blue", "green")
    ]
    return [Finding(question="What was the bridge built of?", evidence=pieces)]


@pytest.mark.parametrize(("tokens", "n"), [(2048, 3), (60, 2), (30, 1)])
def test_a_reply_holds_as_many_items_as_fit(tokens: int, n: int) -> None:
    request = prompts.synthesise("What was it built of?", long_quotes())
    cut = request.model_copy(update={"max_output_tokens": tokens})
    assert len(answer(cut)["sentences"]) == n


def test_a_reply_of_which_nothing_fits_is_truncated() -> None:
    request = prompts.synthesise("What was it built of?", long_quotes())
    outcome = ask(request.model_copy(update={"max_output_tokens": 2}))
    assert isinstance(outcome, Unusable)
    assert (outcome.reason, outcome.reply.stop) == ("truncated", "length")


@pytest.mark.parametrize("purpose", ["plan", "extract", "rewrite", "summarise", "synthesise"])
def test_a_request_without_data_still_gets_its_shape(purpose: Purpose) -> None:
    request = Request(model=BUILTIN, messages=[user([Part(text="hm")])], purpose=purpose)
    assert len(answer(request)) == 1


def test_there_are_no_vectors() -> None:
    with pytest.raises(BadModel, match=r"cannot embed.*lexical index"):
        asyncio.run(Builtin().embed(BUILTIN, ["a"], query=True))


def test_the_tier_is_free_and_needs_nothing() -> None:
    engine = Builtin()
    asyncio.run(engine.preflight(BUILTIN))
    asyncio.run(engine.aclose())
    assert not engine.paid
    assert not engine.generates
    assert engine.model_fingerprint(BUILTIN) == "builtin"
