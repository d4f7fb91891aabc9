"""Small documents of a club or an office: what stands below a heading, and what nobody wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemoflows.engines.builtin.confidence import SURE
from nemoflows.language.answer_types import AnswerType, may_answer
from nemoflows.search.readers import documents
from tests.test_everyday_files import asked

FAQ = """# Boat shed

### Where do I find you?

Past the lock, Kanalgata 9.

### Can I bring guests?

Write to Ida two days before.

### How long is a course?

Three evenings of an hour.
"""
PARTY = "# Harvest supper\n\nDate: 3 September\nPlace: the long barn\nHost: Mona Lien\n"
PRINTER = """# Printer

## Clean the head

1. Hold both buttons until the lamp blinks.
2. Print a page of stripes.

## Error P40

The tray is empty. Fill it.

## Highest load: 250 sheets

See the mark inside.

Deadline of claims: 4 May
-------------------------

Bring the bill.
"""
FEES = """# Fees

~~The fee is 20 crowns.~~

The fee is 25 crowns.

| | Adult | Child |
|---|---|---|
| Day pass | 14 | 7 |
| Season pass | 120 | 60 |
"""
MAIL = """From: Rolf <rolf@example.org>
To: Ida <ida@example.org>
Date: Tue, 3 Mar 2031 08:00:00 +0000
Subject: Re: Delivery of the oven

Hello Ida,

the lorry was late, so it arrives on 9 April in the yard.

On 1 Mar 2031 Ida wrote:
> The delivery of the oven is on 2 April.
"""
PIER = "# 码头\n东湾灯塔建于1931年。塔高二十米。周日不开放。\n"
CLUB = """The weir on the Lilla was raised by Nils Aune. It replaced a ford.

The punt was sold twice. The kayak is 5 m long and hangs in the barn.

Aina Skog was born in 1944. They married in 1969, says Nils Aune.

The goats are fed at 7:30, the geese at 18:15. Berta Hovde books the hall.
"""


@pytest.mark.parametrize(
    ("name", "text", "question", "quote"),
    [
        ("faq.md", FAQ, "Where do I find you?", "Past the lock, Kanalgata 9."),
        ("faq.md", FAQ, "Can I bring guests?", "Write to Ida two days before."),
        ("faq.md", FAQ, "How long is a course?", "Three evenings of an hour."),
        ("supper.md", PARTY, "When is the harvest supper?", "Date: 3 September"),
        ("printer.md", PRINTER, "What does error P40 mean?", "The tray is empty."),
        ("printer.md", PRINTER, "How do I clean the head of the printer?", "1. Hold both"),
        ("printer.md", PRINTER, "What is the highest load?", "Highest load: 250 sheets"),
        ("fees.md", FEES, "whats the fee", "The fee is 25 crowns."),
        ("a.eml", MAIL, "When is the delivery of the oven?", "the lorry was late"),
        ("a.eml", MAIL[: MAIL.index("the lorry")], "Whose delivery of the oven?", "From: Rolf"),
        ("printer.md", PRINTER, "What is the deadline of claims?", "Deadline of claims: 4 May"),
    ],
)
def test_what_a_heading_asks_or_names_is_answered_below_it(
    name: str, text: str, question: str, quote: str, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, name, text, question)
    assert found[0].quote.startswith(quote)
    whole = next(iter(documents(name, text.encode()))).text
    assert whole[found[0].start : found[0].end] == found[0].quote


@pytest.mark.parametrize(
    ("question", "sure"),
    [
        ("Who raised the weir?", True),
        ("When was the weir raised?", False),
        ("Why did the weir replace a ford?", False),
        ("When was the punt sold?", False),
        ("How long is the kayak?", True),
        ("How long is the punt?", False),
        ("Where does the kayak hang?", True),
        ("When are the goats fed?", True),
        ("How many goats are there?", False),
        ("When does Berta Hovde travel?", False),
        ("Who feeds the horses?", False),
        ("When was Aina Skog born?", True),
        ("When did Aina Skog die?", False),
    ],
)
def test_what_nobody_wrote_is_not_answered_for_sure(
    question: str, sure: bool, tmp_path: Path
) -> None:
    _, found = asked(tmp_path, "club.txt", CLUB, question)
    assert (found >= SURE) is sure


def test_a_form_of_a_chinese_word_counts_for_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found, sure = asked(tmp_path / "a", "pier.md", PIER, "东湾灯塔是哪一年建成的")
    assert "1931" in found[0].quote
    assert sure >= SURE
    assert asked(tmp_path / "b", "pier.md", PIER, "东湾灯塔的厕所在哪里")[0] == []


@pytest.mark.parametrize(("row", "sure"), [("season", True), ("family", False)])
def test_a_table_without_such_a_row_is_no_sure_answer(row: str, sure: bool, tmp_path: Path) -> None:
    _, found = asked(tmp_path, "fees.md", FEES, f"How much is a {row} pass?")
    assert (found >= SURE) is sure


def test_below_a_heading_no_other_kind_of_answer_is_taken(tmp_path: Path) -> None:
    assert (
        asked(
            tmp_path,
            "supper.md",
            PARTY.replace("Date: 3 S", "Cook: S"),
            "When is the harvest supper?",
        )[0]
        == []
    )


@pytest.mark.parametrize(
    ("kind", "question", "sentence", "may"),
    [
        ("date", "When is it due?", "It is due at the end of January.", True),
        ("date", "When is it free?", "Entrance is free on Thursdays.", True),
        ("date", "When is it cut?", "It is cut in spring.", True),
        ("date", "When do I need one?", "You need one before you build.", True),
        ("date", "When was it built?", "It was built by Ole Ek.", False),
        ("date", "When was it designed?", "It was designed by Marta Holt.", False),
        ("date", "When is the summer party?", "Subject: summer party", False),
        ("place", "Where is it?", "It hangs behind the hut.", True),
        ("place", "Where does he fly?", "He takes the train on 5 May.", False),
        ("reason", "Why?", "They closed it to keep the mice out.", True),
        ("reason", "Why?", "It is closed.", False),
        ("number", "How many otters are there?", "They are fed at 11:00.", False),
        ("number", "How much does it cost?", "It was bought in 2029.", False),
        ("number", "How many are there?", "There are a dozen of them.", True),
        ("number", "How long is it?", "It was bought.", True),
        ("", "Is it?", "No.", True),
    ],
)
def test_what_has_no_sign_of_a_kind_is_no_answer_of_it(
    kind: AnswerType, question: str, sentence: str, may: bool
) -> None:
    assert may_answer(kind, question, sentence) is may
