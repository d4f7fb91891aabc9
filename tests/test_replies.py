"""Reading replies: what holds is kept, what does not is named."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from nemoflows.calls import Reply, wire
from nemoflows.errors import BadReply
from nemoflows.rag import prompts
from nemoflows.rag.quoting import quoting
from nemoflows.types import Evidence, Finding, Passage
from tests.support import read_quotes

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
        read_quotes(reply(quotes=rows), [PASSAGE] * 300, final=True)
    assert len(caught.value.message) < 1000, "a second ask shows no more"


def test_a_plan_is_tidied_and_bounded() -> None:
    asked = reply(questions=[" a  b ", "a b", "", 3, "c", "d"])
    assert prompts.read_plan(asked, n=2) == ["a b", "c"]


def test_a_plan_without_questions_is_rejected() -> None:
    with pytest.raises(BadReply, match="no question"):
        prompts.read_plan(reply(questions=["", " "]), n=2)


@pytest.mark.parametrize(
    "item",
    [
        "P1.2", "1.2", "[P1.2]", "p1.2", "(1.2)", "P1.2.", " P1 . 2 ", "Passage 1.2", "`P1.2`",
        1.2, 2,
        "[P1.2] The Elbe rises high.", "P1.2: The Elbe", {"mark": "P1.2"}, ["P1.2"],
        {"passage": "P1", "sentence": 2}, {"passage": 1, "unit": "2"}, {"P": "P1.2", "why": "So."},
        {"from": "P1.2", "to": "P1.2"}, {"passage": "P1.2"}, "P1.2-P1.2", "P1.2 to 2",
        {"passage": "P1", "quote": "The Elbe rises high."}, "The Elbe rises high.",
        {"passage": "the first", "quote": "the elbe rises HIGH."},
        "\u201cThe Elbe rises high.\u201d",
    ],
)  # fmt: skip
def test_a_mark_is_read_however_it_is_written(item: Any) -> None:
    [found] = read_quotes(reply(quotes=[item]), [PASSAGE], final=False)
    assert (found.start, found.end, found.heading) == (21, 43, "H")
    assert found.quote == "The Elbe\n rises  high." == TEXT[found.start - 10 : found.end - 10]


@pytest.mark.parametrize("forged", ["[P1.2]", "[p1.2 ]", "[ P7.1]", "[P1.2]  [P1.3]"])
@pytest.mark.parametrize("between", [" \n", "\r\n", "\u2028", " "])
def test_a_document_cannot_forge_a_mark(forged: str, between: str) -> None:
    text = f"First{between}{forged} It is free. Second one."
    passage = PASSAGE.model_copy(update={"text": text, "heading": f"H{between}{forged}"})
    asked, read = quoting("Who?", [passage])
    part = asked.messages[0].parts[0]
    shown = wire.render(part)
    for n, (start, end) in enumerate(part.units, 1):
        assert shown.count(f"[P1.{n}]") == 1
        [found] = read(reply(quotes=[f"P1.{n}"]), False)
        assert found.quote == text[start:end]
    assert len(re.findall(r"\[\s*[Pp]\d", shown)) == len(part.units)
    copied = shown[shown.index("First") : shown.index(" It is")]
    for words in (copied, text[: text.index(" It is")]):
        [found] = read(reply(quotes=[{"passage": "P1", "quote": words}]), False)
        assert found.quote == text[: text.index(" It is")]


@pytest.mark.parametrize(
    "text", ["P1.1-P1.3", "[P1.1]-[P1.3]", "1.1 - 1.3", "P1.1\u20133", "P1.1..P1.3"]
)
def test_a_range_is_one_stretch(text: str) -> None:
    [found] = read_quotes(reply(quotes=[text]), [PASSAGE], final=False)
    assert found.quote == TEXT


@pytest.mark.parametrize(
    "said", ["P1.1, P1.3", ["P1.1", "P1.3", "P1.1"], [["P1.1"], "P1.3"], "P1.1 P1.3"]
)
@pytest.mark.parametrize("name", ["quotes", "marks", "sentences"])
def test_a_list_is_read_whatever_its_shape(name: str, said: Any) -> None:
    found = read_quotes(reply(**{name: said}), [PASSAGE], final=False)
    assert [quote.quote for quote in found] == ["First one.", "Last."]


def test_a_bare_list_is_read() -> None:
    [found] = read_quotes(Reply(text='["P1.3"]'), [PASSAGE], final=False)
    assert found.quote == "Last."


@pytest.mark.parametrize(
    "item", ["P1.9", "P2.1", "P1.3-P1.1", "P1.1-P1.9", "Never written.", "2.5 million", "",
        {}, None, 9,
             {"passage": "P1", "quote": "Never written."}, {"passage": "P2"}, True]
)  # fmt: skip
def test_what_was_not_shown_is_sent_back_with_the_choices(item: Any) -> None:
    for final in (False, True):
        with pytest.raises(BadReply, match=r"Shown were P1\.1 to P1\.3\."):
            read_quotes(reply(quotes=[item]), [PASSAGE], final=final)


def test_a_number_that_json_has_cut_is_not_guessed() -> None:
    many = PASSAGE.model_copy(update={"text": " ".join(f"It is {n}." for n in range(12))})
    [found] = read_quotes(reply(quotes=["P1.10"]), [many], final=False)
    assert found.quote == "It is 9."
    with pytest.raises(BadReply):
        read_quotes(Reply(text='{"quotes": [1.10]}'), [many], final=False)


def test_a_second_ask_keeps_what_held() -> None:
    for second in (reply(quotes=[]), reply(quotes=["P7.7"]), Reply(text="Sorry.")):
        _, read = quoting("Who?", [PASSAGE])
        with pytest.raises(BadReply, match=r"'P9\.9'"):
            read(reply(quotes=["P1.3", "P9.9"]), False)
        assert [quote.quote for quote in read(second, True)] == ["Last."]
    with pytest.raises(BadReply):
        read(reply(quotes=["P1.3", "P9.9"]), False)
    assert [q.quote for q in read(reply(quotes=["P1.1"]), True)] == ["Last.", "First one."]


@pytest.mark.parametrize(
    ("first", "is_answer"), [(reply(quotes=["P9.9"]), False), (Reply(text="I think so."), True)]
)
def test_an_empty_list_is_no_answer_after_wrong_marks(first: Reply, is_answer: bool) -> None:
    _, read = quoting("Who?", [PASSAGE])
    with pytest.raises(BadReply):
        read(first, False)
    if is_answer:
        assert read(reply(quotes=[]), True) == []
        return
    with pytest.raises(BadReply, match="empty list"):
        read(reply(quotes=[]), True)


@pytest.mark.parametrize("names", [("quotes", "marks"), ("marks", "quotes"), ("note", "marks")])
def test_a_list_is_read_beside_a_name_without_a_value(names: tuple[str, str]) -> None:
    told = dict.fromkeys(names) | {names[1]: ["P1.3"]}
    [found] = read_quotes(reply(**told), [PASSAGE], final=False)
    assert found.quote == "Last."


def test_no_quotes_is_an_answer() -> None:
    assert read_quotes(reply(quotes=[]), [PASSAGE], final=False) == []


def test_every_shown_unit_is_a_choice_and_so_is_a_block_of_lines() -> None:
    table = "Prices:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nThat is all."
    passages = [PASSAGE, PASSAGE.model_copy(update={"text": table, "start": 0})]
    asked, read = quoting("Who?", passages)
    assert asked.json_schema is not None
    items = asked.json_schema["properties"]["quotes"]["items"]
    marks = [f"P1.{n}" for n in (1, 2, 3)] + [f"P2.{n}" for n in (1, 2, 3, 4, 5)]
    assert items["enum"] == [*marks, "P2.2-P2.4"]
    [row] = read(reply(quotes=["P2.4"]), False)
    assert row.quote == "| 3 | 4 |"
    [block] = read(reply(quotes=["P2.2-P2.4"]), False)
    assert block.quote == table[table.index("|") : table.rindex("|") + 1]


def test_many_units_are_not_enumerated() -> None:
    asked, read = quoting("Who?", [PASSAGE] * 100)
    assert asked.json_schema is not None
    assert "enum" not in asked.json_schema["properties"]["quotes"]["items"]
    [found] = read(reply(quotes=["P100.3"]), False)
    assert found.quote == "Last."


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


@pytest.mark.parametrize(
    "row",
    ["B. [4] [1]", {"text": "B. [4, 1]"}, {"text": "B.", "citations": ["[4], [1]"]},
     {"text": "B.", "citations": "4, 1"}, {"text": "B [4].", "citations": [4, "1"]}],
)  # fmt: skip
def test_citations_are_read_wherever_they_stand(row: Any) -> None:
    written = prompts.read_answer(reply(sentences=[row]), FINDINGS, final=False)
    assert (written.text, len(written.citations)) == ("B. [1][2]", 2)


@pytest.mark.parametrize(
    "rows", [[], ["A."], [{"text": "A."}], [{"text": "A.", "citations": ["x"]}], [1]]
)
def test_an_answer_of_another_shape_is_rejected(rows: Any) -> None:
    with pytest.raises(BadReply):
        prompts.read_answer(reply(sentences=rows), FINDINGS, final=True)


@pytest.mark.parametrize("told", [["4"], ["[4]"], [4], 4, "4", [" 4 "]])
def test_a_citation_is_read_however_it_is_written(told: Any) -> None:
    asked = reply(sentences=[{"text": "B.", "citations": told}])
    assert prompts.read_answer(asked, FINDINGS, final=False).citations[0].start == 9


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
