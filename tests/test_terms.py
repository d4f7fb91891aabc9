from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.language.terms import STOP_WORDS, terms, words


@pytest.mark.parametrize(
    "spelling", ["max_tokens", "maxTokens", "MaxTokens", "max tokens", "max-tokens"]
)
def test_every_spelling_of_a_name_is_the_same_words(spelling: str) -> None:
    assert words(spelling) == ["max", "tokens"]


def test_an_acronym_is_one_word_before_a_hump() -> None:
    assert words("HTTPServer parseJSON") == ["http", "server", "parse", "json"]


def test_case_and_accents_fold() -> None:
    assert words("Élysée ÉLYSÉE Straße") == ["elysee", "elysee", "strasse"]


def test_words_keep_order_repeats_and_stop_words() -> None:
    assert words("The cat, the 2 cats!") == ["the", "cat", "the", "2", "cats"]


def test_terms_are_stemmed_and_free_of_stop_words() -> None:
    assert terms("What is the connection between the connected cats?") == [
        "connect",
        "connect",
        "cat",
    ]


def test_a_question_of_stop_words_has_no_terms() -> None:
    assert terms("what is it") == []


def test_stop_words_are_words() -> None:
    assert all(words(word) == [word] for word in STOP_WORDS)


@given(st.text())
def test_words_of_any_text_hold_letters_their_marks_and_few_signs(text: str) -> None:
    for word in words(text):
        marks = (unicodedata.category(character)[0] == "M" for character in word)
        kept = zip(word, marks, strict=True)
        assert all(character.isalnum() or mark or character in "+#" for character, mark in kept)
        assert not word[0].isspace()


@given(st.text(st.characters(max_codepoint=126)))
def test_words_of_plain_text_are_folded(text: str) -> None:
    assert all(words(word) == [word] for word in words(text))


@given(st.text(alphabet="abcXYZ _.é", max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once


def test_the_stemmer_is_loaded_only_when_a_term_is_asked_for() -> None:
    code = "import sys, nemoflows.language.terms; assert 'Stemmer' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
