"""Reading replies: what holds is kept, what does not is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nemoflows.calls import Reply
from nemoflows.errors import BadReply
from nemoflows.rag import prompts
from nemoflows.types import Evidence, Finding, Passage

TEXT = "First one.\nThe Elbe\n rises  high. Last."
PASSAGE = Passage(id="d:10-49", document="d", start=10, end=10 + len(TEXT), text=TEXT, heading="H")


def quote(start: int, text: str = "q", document: str = "d") -> Evidence:
    return Evidence(quote=text, document=document, start=start, end=start + len(text))


FINDINGS = [
    Finding(question="a", summary="A", evidence=[quote(0), quote(5)]),
    Finding(question="b", summary="B", evidence=[quote(0), quote(9)]),
]


def reply(**content: Any) -> Reply:
    return Reply(text=json.dumps(content))


def sentences(*rows: tuple[str, list[int]]) -> Reply:
    return reply(sentences=[{"text": text, "citations": numbers} for text, numbers in rows])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"other": 1}', '{"questions": "x"}'])
def test_what_is_not_the_asked_shape_is_named(text: str) -> None:
    with pytest.raises(BadReply, match=r"JSON|must be an object"):
        prompts.read_plan(Reply(text=text), n=3)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"questions": ' * 50_000])
def test_endless_nesting_is_a_bad_reply(text: str) -> None:
    with pytest.raises(BadReply, match="not JSON"):
        prompts.read_plan(Reply(text=text), n=3)


def test_a_lone_surrogate_in_an_escape_is_replaced() -> None:
    found = prompts.read_summary(Reply(text='{"summary": "cut \\ud83d"}'))
    assert found == "cut \ufffd"
    assert found.encode()


def test_control_characters_in_a_string_are_read() -> None:
    assert prompts.read_summary(Reply(text='{"summary": "a\tb\nc"}')) == "a\tb\nc"


def test_an_error_names_a_few_wrong_items_only() -> None:
    rows = [{"passage": "P" * 500, "quote": f"invented {n} " * 50} for n in range(99)]
    with pytest.raises(BadReply) as caught:
        prompts.read_quotes(reply(quotes=rows), [PASSAGE], final=True)
    assert len(caught.value.message) < 600


def test_a_plan_is_tidied_and_bounded() -> None:
    asked = reply(questions=[" a  b ", "a b", "", 3, "c", "d"])
    assert prompts.read_plan(asked, n=2) == ["a b", "c"]


def test_a_plan_without_questions_is_rejected() -> None:
    with pytest.raises(BadReply, match="no question"):
        prompts.read_plan(reply(questions=["", " "]), n=2)


def test_a_quote_gets_its_offsets() -> None:
    [found] = prompts.read_quotes(
        reply(quotes=[{"passage": "P1", "quote": "First one."}]), [PASSAGE], final=False
    )
    assert (found.start, found.end, found.heading) == (10, 20, "H")


def test_white_space_may_differ_and_the_documents_own_is_kept() -> None:
    [found] = prompts.read_quotes(
        reply(quotes=[{"passage": "P1", "quote": "The Elbe rises high."}]), [PASSAGE], final=False
    )
    assert found.quote == "The Elbe\n rises  high."
    assert TEXT[found.start - 10 : found.end - 10] == found.quote


@pytest.mark.parametrize(
    "row",
    [
        {"passage": "P2", "quote": "First one."},
        {"passage": "", "quote": "First one."},
        {"passage": "P1", "quote": "Never written."},
        {"passage": "P1", "quote": "first one."},
    ],
)
def test_an_invented_quote_is_sent_back(row: dict[str, str]) -> None:
    with pytest.raises(BadReply, match="Not word for word"):
        prompts.read_quotes(reply(quotes=[row]), [PASSAGE], final=False)
    with pytest.raises(BadReply, match="Not word for word"):
        prompts.read_quotes(reply(quotes=[row]), [PASSAGE], final=True)


def test_at_the_last_try_an_invented_quote_does_not_cost_the_true_ones() -> None:
    rows = [{"passage": "P1", "quote": "Last."}, {"passage": "P1", "quote": "invented"}]
    with pytest.raises(BadReply):
        prompts.read_quotes(reply(quotes=rows), [PASSAGE], final=False)
    [found] = prompts.read_quotes(reply(quotes=rows), [PASSAGE], final=True)
    assert found.quote == "Last."


def test_no_quotes_is_an_answer() -> None:
    assert prompts.read_quotes(reply(quotes=[]), [PASSAGE], final=False) == []


@pytest.mark.parametrize("row", ["text", {"passage": "P1"}, {"passage": "P1", "quote": " "}, None])
def test_a_quote_of_another_shape_is_rejected(row: Any) -> None:
    with pytest.raises(BadReply, match="`passage` and `quote`"):
        prompts.read_quotes(reply(quotes=[row]), [PASSAGE], final=True)


def test_citations_are_renumbered_in_reading_order() -> None:
    written = prompts.read_answer(sentences(("B.", [4]), ("A.", [2, 4])), FINDINGS, final=False)
    assert written.text == "B. [1] A. [2][1]"
    assert [(c.number, c.start) for c in written.citations] == [(1, 9), (2, 5)]


def test_one_stretch_quoted_twice_is_one_citation() -> None:
    written = prompts.read_answer(sentences(("A.", [1, 3])), FINDINGS, final=False)
    assert written.text == "A. [1]"
    assert len(written.citations) == 1


def test_a_number_that_no_quote_has_is_sent_back_then_dropped() -> None:
    asked = sentences(("A.", [1, 99]), ("B.", [0]))
    with pytest.raises(BadReply, match="quotes 1 to 4 only"):
        prompts.read_answer(asked, FINDINGS, final=False)
    written = prompts.read_answer(asked, FINDINGS, final=True)
    assert written.text == "A. [1] B."
    assert len(written.dropped) == 2
    assert written.unsupported == ["B."]


def test_marks_that_a_model_writes_itself_are_taken_out() -> None:
    written = prompts.read_answer(
        sentences(("A is so [99], it is [1, 2].", [1])), FINDINGS, final=False
    )
    assert written.text == "A is so, it is. [1]"


def test_sentences_without_support_are_listed() -> None:
    written = prompts.read_answer(sentences(("A.", []), ("B.", [1])), FINDINGS, final=False)
    assert written.unsupported == ["A."]


@pytest.mark.parametrize("rows", [[], [{"text": "A."}], [{"text": "A.", "citations": ["1"]}], [1]])
def test_an_answer_of_another_shape_is_rejected(rows: Any) -> None:
    with pytest.raises(BadReply):
        prompts.read_answer(reply(sentences=rows), FINDINGS, final=True)


def test_summaries_and_queries() -> None:
    assert prompts.read_summary(reply(summary=" x ")) == "x"
    assert prompts.read_query(reply(query=" a\n b ")) == "a b"
    with pytest.raises(BadReply, match="empty"):
        prompts.read_summary(reply(summary=" "))


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["A.", "B."], "A. [1] B. [1]"),
        (["A.", "\n\nB.", "C."], "A. [1]\n\nB. [1] C. [1]"),
        (["\n\nA.", "\n\n B."], "A. [1]\n\nB. [1]"),
        (["A.\n\n", "\nB."], "A. [1] B. [1]"),
    ],
)
def test_a_sentence_that_begins_with_an_empty_line_begins_a_paragraph(
    texts: list[str], shown: str
) -> None:
    asked = sentences(*((text, [1]) for text in texts))
    assert prompts.read_answer(asked, FINDINGS, final=False).text == shown
