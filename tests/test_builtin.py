from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemoflows.engines.builtin import (
    extract,
    plan,
    rewrite,
    summarise,
    summarise_text,
    synthesise,
)
from nemoflows.types import Evidence, Finding, Passage

BRIDGE = (
    "The Alder Bridge crosses the river Wend. It was built in 1871 by Jane Holt, an engineer from "
    "Norwich. The bridge carries trams because the road was too narrow for them."
)
HOLT = "Jane Holt was a British engineer. She was born in Norwich and studied in Leeds."
TRAMS = "Trams run every ten minutes. A ticket costs 2.40 euros. They stop at 11 p.m. on weekdays."


def passage(text: str, *, document: str = "a.md", start: int = 0, heading: str = "") -> Passage:
    return Passage(
        id=f"{document}:{start}-{start + len(text)}",
        document=document,
        start=start,
        end=start + len(text),
        text=text,
        heading=heading,
    )


CORPUS = [
    passage(BRIDGE, document="bridge.md", start=40, heading="Alder Bridge"),
    passage(HOLT, document="holt.md", heading="Jane Holt"),
    passage(TRAMS, document="trams.md", heading="Fares and times"),
]


def evidence(quote: str, *, document: str = "a.md", start: int = 0) -> Evidence:
    return Evidence(quote=quote, document=document, start=start, end=start + len(quote))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who built the Alder Bridge?", "Jane Holt"),
        ("When was the Alder Bridge built?", "1871"),
        ("Which river does the Alder Bridge cross?", "Wend"),
        ("Why does the bridge carry trams?", "too narrow"),
        ("How much does a tram ticket cost?", "2.40"),
        ("Where was Jane Holt born?", "born in Norwich"),
        ("How often do trams run?", "ten minutes"),
    ],
)
def test_the_first_quote_holds_the_answer(question: str, answer: str) -> None:
    assert answer in extract(question, CORPUS)[0].quote


def test_quotes_are_verbatim_at_their_offsets_in_the_document() -> None:
    document = "x" * 40 + BRIDGE
    for piece in extract("Who built the Alder Bridge?", CORPUS[:1]):
        assert document[piece.start : piece.end] == piece.quote
        assert (piece.document, piece.heading) == ("bridge.md", "Alder Bridge")
        assert piece.passage == CORPUS[0].id


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of Peru?",
        "Who built the Oresund Bridge in Denmark?",
        "When was Jane Austen's novel Emma published?",
        "How do I configure autoscaling for pods?",
        "What is it?",
        "",
    ],
)
def test_what_the_passages_do_not_cover_is_not_answered(question: str) -> None:
    assert extract(question, CORPUS) == []


def test_without_passages_there_are_no_quotes() -> None:
    assert extract("Who built the Alder Bridge?", []) == []
    assert extract("Who built the Alder Bridge?", [passage("")]) == []


def test_at_most_k_quotes_come_back_and_none_twice() -> None:
    twice = [*CORPUS, passage(BRIDGE, document="copy.md", heading="Alder Bridge")]
    found = extract("Who built the Alder Bridge?", twice, k=3)
    assert len(found) == len({piece.quote for piece in found}) <= 3
    assert len(extract("Who built the Alder Bridge?", twice, k=1)) == 1


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When was the Alder Brigde built?", "The Alder Bridge was built in 1871 in the town."),
        ("Who invaded the town?", "The invasion of the town was led by Count Otto."),
        ("What does the EU regulate here?", "The European Union regulates all trade here."),
    ],
)
def test_misspellings_forms_and_abbreviations_still_match(question: str, text: str) -> None:
    assert [piece.quote for piece in extract(question, [passage(text)])] == [text]


def test_headings_are_not_quoted_and_code_only_with_what_announces_it() -> None:
    text = (
        "## Install the tool\n\nInstall the tool with pip:\n\n```bash\npip install tool\n```\n\n"
        "The tool needs Python 3.11 to install. It has no other needs."
    )
    found = extract("How do I install the tool?", [passage(text)])
    assert "The tool needs Python 3.11 to install." in [piece.quote for piece in found]
    assert "Install the tool with pip:\n\n```bash\npip install tool\n```" in [
        piece.quote for piece in found
    ]
    assert all("#" not in piece.quote for piece in found)


def test_code_is_quoted_whole_where_no_sentence_answers() -> None:
    code = "def stop_after(delay):\n    return clock() >= delay\n"
    found = extract("How does stop_after use the clock?", [passage(code, document="stop.py")])
    assert [piece.quote for piece in found] == [code.rstrip()]


def test_several_questions_in_one_are_asked_one_by_one() -> None:
    assert plan("Who built the bridge? When was the tunnel opened?", 4) == [
        "Who built the bridge?",
        "When was the tunnel opened?",
    ]
    assert plan("What is a tram and how do I buy a ticket?", 4) == [
        "What is a tram?",
        "How do I buy a ticket?",
    ]


def test_a_later_question_names_what_its_pronoun_stands_for() -> None:
    assert plan("What does Jane Holt do? Where was she born?", 3)[1] == "Where was Jane Holt born?"


@pytest.mark.parametrize(
    ("question", "sides"),
    [
        ("What is the difference between trams and buses?", ("trams", "buses")),
        ("Compare trams with buses in terms of cost.", ("trams", "buses")),
        ("trams vs. buses", ("trams", "buses")),
        ("Which is older, the Alder Bridge or the Elm Bridge?", ("Alder", "Elm")),
    ],
)
def test_a_comparison_asks_for_each_side(question: str, sides: tuple[str, str]) -> None:
    first, second = plan(question, 4)
    assert sides[0] in first
    assert sides[1] not in first
    assert sides[1] in second


@pytest.mark.parametrize("question", ["Who built the bridge?", "bridges", "A and B?", " x ? "])
def test_a_plain_question_is_its_own_plan(question: str) -> None:
    assert plan(question, 5) == [" ".join(question.split())]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_plan_is_never_empty_nor_longer_than_asked(n: int) -> None:
    found = plan("What is a? What is the b? What is the c?", n)
    assert 1 <= len(found) <= max(n, 1)


def test_the_next_query_names_what_was_found_and_what_is_open() -> None:
    question = "In which town was the engineer of the Alder Bridge born?"
    query = rewrite(question, CORPUS[:1], [question])
    assert "Jane Holt" in query
    assert "born" in query
    assert "Alder" not in query


def test_the_next_query_asks_for_the_name_that_was_missed() -> None:
    question = "Are the Alder Bridge and the Elm Tunnel both older than 1900?"
    assert rewrite(question, CORPUS[:1], [question]) == "Elm Tunnel"


def test_there_is_no_next_query_without_passages_or_when_it_was_asked() -> None:
    question = "In which town was the engineer of the Alder Bridge born?"
    query = rewrite(question, CORPUS[:1], [question])
    assert rewrite(question, [], [question]) == ""
    assert rewrite(question, CORPUS[:1], [question, query]) == ""


def test_a_summary_is_the_first_quote_as_it_reads() -> None:
    quotes = [
        evidence("- The **bridge** was built in 1871 by Holt"),
        evidence("By Holt, the bridge was built in 1871.", start=90),
    ]
    assert summarise(quotes) == "The bridge was built in 1871 by Holt."


def test_a_summary_of_text_does_not_say_things_twice() -> None:
    text = [
        "The bridge was built in 1871 by Holt.",
        "By Holt, the bridge was built in 1871.",
        "Its cost for the town was 40,000 pounds.",
    ]
    assert summarise_text("The bridge, when built and at what cost", text, n=2) == [0, 2]


def test_a_summary_of_nothing_is_empty() -> None:
    assert summarise([]) == ""
    assert summarise_text("Title", [], n=1) == []
    assert summarise_text("Title", ["..."], n=1) == []


def test_the_sentence_that_states_the_contribution_sums_up_an_abstract() -> None:
    abstract = [
        "Training large networks with few labels remains a challenge in many areas.",
        "However, existing methods need a validation set.",
        "We propose label sharing, a method that trains networks with few labels.",
        "Code is available at https://example.org.",
    ]
    assert summarise_text("Label sharing for networks with few labels", abstract, n=1) == [2]
    assert summarise_text("", abstract, n=4) == [0, 1, 2, 3]
    assert summarise_text("", abstract, n=2) == sorted(summarise_text("", abstract, n=2))


def test_an_answer_cites_by_position_and_drops_repetitions() -> None:
    built, cost = (
        evidence("Holt built the bridge in 1871."),
        evidence("It cost 9 pounds.", start=70),
    )
    again = evidence("In 1871 Holt built the bridge.", document="b.md")
    first = Finding(question="Who built the bridge?", evidence=[built])
    second = Finding(question="What did the bridge cost?", evidence=[cost, again, built])
    assert synthesise("Who built it, at what cost?", [first, second]) == (
        "Holt built the bridge in 1871. [1][3]\n\nIt cost 9 pounds. [2]"
    )


def test_an_answer_without_findings_is_empty() -> None:
    assert synthesise("Who?", []) == ""
    assert synthesise("Who?", [Finding(question="Who?")]) == ""


@pytest.mark.parametrize(
    ("quote", "shown"),
    [
        ("- **Holt** built the\n  [bridge](http://x.y).", "Holt built the bridge. [1]"),
        ("Install it like this:", "Install it like this. [1]"),
        ("See :class:`Retry <a.b.Retry>` and ``wait``.", "See `Retry` and `wait`. [1]"),
        ("> quoted\n> twice", "quoted twice. [1]"),
        ("It lasted.[12] Really?", "It lasted. Really? [1]"),
        ("\u6865\u5efa\u4e8e1871\u5e74\u3002", "\u6865\u5efa\u4e8e1871\u5e74\u3002 [1]"),
        ("```python\nimport x\nx.run()\n```", "`x.run()` [1]"),
    ],
)
def test_quotes_read_as_sentences(quote: str, shown: str) -> None:
    found = [Finding(question="Who built it?", evidence=[evidence(quote)])]
    assert synthesise("Who built it?", found) == shown


def test_the_same_inputs_give_the_same_bytes_under_any_hash_seed() -> None:
    code = (
        "import tests.test_builtin as t\n"
        "print(t.extract('Who built the Alder Bridge for trams?', t.CORPUS))\n"
        "print(t.rewrite('Where was the engineer of the bridge born?', t.CORPUS, []))\n"
        "from nemoflows.search.fusion import merge_hops\n"
        "print(merge_hops([t.CORPUS, t.CORPUS[::-1]]))\n"
        "print(t.summarise(t.extract('Who built the Alder Bridge?', t.CORPUS)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "77")
    }
    assert len(outputs) == 1


WORDS = st.sampled_from(
    ["Alder", "bridge", "built", "It", "was", "in", "1871", ".", "\n\n", "- ", "```\n", "?", '"""']
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=25), max_size=4), st.integers(1, 6))
def test_whatever_the_passages_hold_quotes_are_verbatim(pieces: list[list[str]], k: int) -> None:
    passages = [
        passage(" ".join(words), document=f"{n}.md", start=n) for n, words in enumerate(pieces)
    ]
    by_id = {each.id: each for each in passages}
    found = extract("When was the Alder bridge built?", passages, k=k)
    assert len(found) <= k
    for piece in found:
        home = by_id[piece.passage]
        assert home.text[piece.start - home.start : piece.end - home.start] == piece.quote


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.integers(1, 5))
def test_any_question_has_a_plan_and_no_step_breaks_on_it(question: str, n: int) -> None:
    planned = plan(question, n)
    assert 1 <= len(planned) <= n
    quotes = extract(question, CORPUS)
    rewrite(question, CORPUS, planned)
    summary = summarise(quotes)
    assert bool(summary) == bool(quotes)
    text = synthesise(question, [Finding(question=question, evidence=quotes)])
    assert bool(text) == bool(quotes)


def test_addresses_are_no_words_of_a_sentence() -> None:
    text = "Please read [the guide](https://alder-bridge.org/built-1871). The bridge opened late."
    assert extract("When was the Alder bridge built in 1871?", [passage(text)]) == []


def test_a_definition_is_told_by_its_subject() -> None:
    text = (
        "Install ferry with pip. For using ferry with ships, see below. "
        "Ferry is a small library that carries values between tasks (or pods)."
    )
    assert extract("What is ferry?", [passage(text)])[0].quote.startswith("Ferry is a small")
