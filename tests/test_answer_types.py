from __future__ import annotations

import pytest

from nemoflows.language.answer_types import answer_type, answers, core


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who wrote it?", "name"),
        ("Which French king came first?", "name"),
        ("When did it end?", "date"),
        ("In what year was it built?", "date"),
        ("Where is the config?", "place"),
        ("How many were there?", "number"),
        ("What is the percentage of gas stations that ran out?", "number"),
        ("How long does it take?", "number"),
        ("Why is it slow?", "reason"),
        ("What was the reason for the war?", "reason"),
        ("How do I install it?", ""),
        ("What is tenacity?", "definition"),
        ("What does WAL stand for?", "definition"),
        ("What is the theory known as?", "name"),
        ("Does it work?", ""),
        ("Tell me about rivers.", ""),
        ("", ""),
    ],
)
def test_the_asking_word_tells_the_kind_of_answer(question: str, kind: str) -> None:
    assert answer_type(question) == kind


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Could you please tell me how hot the oven gets?", "how hot the oven gets?"),
        ("Hi! I would like to know whose boat that is, thanks a lot", "whose boat that is"),
        ("I was wondering who orders the gloves", "who orders the gloves"),
        ("Any idea in which hall it stands?", "in which hall it stands?"),
        ("Does anybody at Velra know who leads it?", "Does anybody at Velra know who leads it?"),
        ("Who should know what is thanked for?", "Who should know what is thanked for?"),
        ("Where is it, please?", "Where is it"),
        ("Thanks", "Thanks"),
        ("Who gave thanks to the crew?", "Who gave thanks to the crew?"),
    ],
)
def test_courtesies_are_no_part_of_a_question(question: str, asked: str) -> None:
    assert core(question) == asked


@pytest.mark.parametrize(
    ("question", "holds", "lacks"),
    [
        ("When was it built?", "It was built in 1871.", "It was built quickly."),
        ("How many ships?", "They had twelve ships.", "They had many ships."),
        ("How long did it last?", "It lasted 7 years.", "It lasted for long."),
        ("How much did it cost?", "It cost $5.", "It cost a lot."),
        ("How far is it?", "It is 5 km away.", "It is far away."),
        ("Who fumbled?", "Then Newton fumbled.", "Then somebody fumbled."),
        ("Where was it?", "It was in Paris.", "It was French."),
        ("Why did it fail?", "It failed because of rain.", "It failed."),
        ("What is a fumble?", "A fumble is a lost ball.", "The fumble came late."),
        ("What is it called?", "It is known as miasma.", "It is bad air."),
    ],
)
def test_a_sentence_with_the_asked_kind_beats_one_without(
    question: str, holds: str, lacks: str
) -> None:
    kind = answer_type(question)
    assert answers(kind, question, holds) > answers(kind, question, lacks)


def test_what_the_question_names_itself_is_no_answer() -> None:
    assert answers("date", "What happened in 1999?", "Much happened in 1999.") == 0
    assert answers("name", "Who beat Newton?", "They beat Newton.") == 0
    assert answers("", "Is it?", "It is.") == 0
