"""Whatever a document holds: sentences cover it, quotes are its own, and no text takes forever."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemoflows.engines.builtin import extract, plan, rewrite, summarise, synthesise
from nemoflows.engines.builtin.prose import is_code, readable
from nemoflows.language.sentences import sentences
from nemoflows.types import Finding, Passage

MEGABYTE = 1_000_000
ODD = {
    "one word of a megabyte": "x" * MEGABYTE,
    "only punctuation": ".!?;:," * (MEGABYTE // 6),
    "nothing but full stops": "." * MEGABYTE,
    "NULs": "\0" * MEGABYTE,
    "quotes": '"' * MEGABYTE,
    "back ticks": "`" * MEGABYTE,
    "open brackets": "[" * MEGABYTE,
    "images of images": "![" * (MEGABYTE // 2),
    "open angles": "<" * MEGABYTE,
    "quote marks of mail": "> " * (MEGABYTE // 2),
    "list marks": "- " * (MEGABYTE // 2),
    "a table of bars": "|" * MEGABYTE,
    "Chinese without spaces": "\u6c34\u3002" * (MEGABYTE // 2),
    "Hebrew": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd. " * (MEGABYTE // 11),
    "capitals": "Ab " * (MEGABYTE // 3),
    "assignments on one line": "a = " * (MEGABYTE // 4),
    "only spaces": " " * MEGABYTE,
    "only line ends": "\n" * (MEGABYTE // 4),
    "docstrings that never end": '"""\n' * (MEGABYTE // 16),
    "fences that never end": "```\n~~~\n" * (MEGABYTE // 32),
}
LINES = [
    "# Ferry",
    "Ferry",
    "=====",
    "Ferry is a small library that carries values. It was built in 2019 by Ada Brown!",
    "carried by ferry, e.g. in Dr. Brown's harbour, at 5 p.m. on deck",
    "Install it with pip:",
    "```bash",
    "```",
    "~~~",
    "    pip install ferry",
    "\tferry run --fast",
    ".. code:: python",
    ">>> import ferry",
    '"""Carry one value. Then rest.',
    '"""',
    "Args:",
    "    timeout (float): Seconds to wait for the ferry.",
    "timeout: float or None",
    "    How long the ferry waits.",
    "- first",
    "  more of it",
    "1. second",
    "> - **quoted** `code` [link](http://x.y)",
    "| ferry | 2.39 sec |",
    "|-------|----------|",
    "+---+---+",
    "[![badge](x.svg)](y)",
    "def carry(value: int) -> int:",
    "    return value  # ferry",
    '"ferry": "\u26f4",',
    "\u6e21\u3057\u8239\u3067\u3059\u3002\u901f\u3044\uff01",
    "\u0627\u0644\u0639\u0628\u0627\u0631\u0629 \u0633\u0631\u064a\u0639\u0629.",
    "nul \0 and \x1f, soft\u00adhyphen, e\u0301, \U0001f6a2",
    "",
    "   ",
]
DOCUMENTS = st.tuples(
    st.lists(st.sampled_from(LINES), max_size=16), st.sampled_from(["\n", "\r\n", "\n\n"])
).map(lambda drawn: drawn[1].join(drawn[0]))
QUESTIONS = [
    "What is ferry?",
    "How do I install ferry?",
    "When was ferry built, and who built it?",
    "What is the timeout in seconds?",
    "Does ferry run fast?",
    "ferry",
]


def passage(text: str, *, start: int = 0, document: str = "ferry-2.1/README.md") -> Passage:
    end = start + len(text)
    return Passage(
        id=f"{document}:{start}-{end}", document=document, start=start, end=end, text=text
    )


def letters(text: str) -> list[str]:
    return [character for character in text if character.isalnum()]


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_a_megabyte_of_anything_is_cut_without_losing_a_letter(text: str) -> None:
    found = sentences(text)
    assert letters("".join(each.text for each in found)) == letters(text)
    assert all(a.end <= b.start for a, b in pairwise(found))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_no_quote_of_anything_grows_when_it_is_made_readable(text: str) -> None:
    quote = text[:50_000]
    shown = readable(quote)
    assert len(shown) <= len(quote) + 20
    assert "\n" not in shown
    assert is_code(quote) in {True, False}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_every_step_takes_a_passage_of_anything(text: str) -> None:
    odd = [passage(text[:20_000]), passage("Ferry was built in 2019.", document="b.md")]
    found = extract("When was ferry built?", odd)
    assert [piece.quote for piece in found][:1] == ["Ferry was built in 2019."]
    assert rewrite("Who built the Ferry?", odd, []) == rewrite("Who built the Ferry?", odd, [])
    assert 1 <= len(plan(text[:8_000], 4)) <= 4


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
@example("Install it with pip:\r\n\r\n    pip install ferry")
@example('"""Carry one value. Then rest.')
@example("```bash\n```bash\n~~~")
def test_sentences_cover_any_document_in_order_and_without_overlap(text: str) -> None:
    found = sentences(text)
    assert all(text[each.start : each.end] == each.text for each in found)
    assert all(each.start < each.end for each in found)
    assert all(a.end <= b.start and a.block <= b.block for a, b in pairwise(found))
    assert letters("".join(each.text for each in found)) == letters(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(DOCUMENTS, max_size=4), st.sampled_from(QUESTIONS), st.integers(1, 6))
def test_every_quote_stands_at_its_offsets_in_its_document(
    texts: list[str], question: str, k: int
) -> None:
    placed = [
        passage(text, start=7 * n, document=f"ferry-{n}/README.md") for n, text in enumerate(texts)
    ]
    documents = {each.document: " " * each.start + each.text for each in placed}
    found = extract(question, placed, k=k)
    assert len(found) <= k
    for piece in found:
        assert documents[piece.document][piece.start : piece.end] == piece.quote
        assert piece.passage in {each.id for each in placed}


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.sampled_from(QUESTIONS))
def test_every_mark_of_an_answer_is_a_quote_and_nothing_is_said_without_one(
    text: str, question: str
) -> None:
    found = extract(question, [passage(text)])
    answer = synthesise(question, [Finding(question=question, evidence=found)])
    assert bool(answer) == bool(found)
    assert bool(summarise(found)) == bool(found)
    for n in range(len(found) + 1, 12):
        assert f" [{n}]" not in answer


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_what_is_shown_of_a_quote_is_one_line_and_holds_no_fence(text: str) -> None:
    for each in sentences(text):
        shown = readable(each.text)
        assert "\n" not in shown
        assert "```" not in shown
        if each.kind in {"prose", "bullet"} and any(map(str.isascii, letters(each.text))):
            assert shown


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=300), st.text(max_size=60))
def test_no_question_about_no_text_breaks_a_step(text: str, question: str) -> None:
    for piece in extract(question, [passage(text, start=3)]):
        assert text[piece.start - 3 : piece.end - 3] == piece.quote
    assert extract(question, [passage(text)]) == extract(question, [passage(text)])


def test_odd_documents_give_the_same_answers_under_any_hash_seed() -> None:
    code = (
        "import tests.test_odd_text as t\n"
        "pages = ['\\n'.join(t.LINES[n:] + t.LINES[:n]) for n in range(0, len(t.LINES), 5)]\n"
        "placed = [t.passage(p, document=f'ferry-{n}/a.md') for n, p in enumerate(pages)]\n"
        "for question in t.QUESTIONS:\n"
        "    found = t.extract(question, placed)\n"
        "    finding = t.Finding(question=question, evidence=found)\n"
        "    print(found, t.synthesise(question, [finding]), t.rewrite(question, placed, []))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    }
    assert len(outputs) == 1
    assert b"quote=" in next(iter(outputs))
