from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.search.chunks import TARGET_CHARS, Section, split

TEXTS = st.text(alphabet="ab.! \n\r\u2028é。", max_size=400)


@given(TEXTS, st.integers(1, 60))
def test_passages_hold_every_character_but_white_space_once_and_in_order(
    text: str, target: int
) -> None:
    chunks = split(text, target_chars=target)
    joined = "".join(text[chunk.start : chunk.end] for chunk in chunks)
    assert "".join(joined.split()) == "".join(text.split())
    ends = [0, *(chunk.end for chunk in chunks)]
    assert all(chunk.start >= end for chunk, end in zip(chunks, ends, strict=False))


@given(TEXTS, st.integers(1, 60))
def test_no_passage_is_longer_than_the_target_or_padded(text: str, target: int) -> None:
    for chunk in split(text, target_chars=target):
        passage = text[chunk.start : chunk.end]
        assert 0 < len(passage) <= target
        assert passage == passage.strip()


@given(TEXTS, st.lists(st.integers(0, 400), max_size=5))
def test_no_passage_spans_two_sections(text: str, cuts: list[int]) -> None:
    starts = sorted({min(cut, len(text)) for cut in cuts})
    sections = [Section(start, f"s{start}") for start in starts]
    for chunk in split(text, sections, target_chars=20):
        above = [section for section in sections if section.start <= chunk.start]
        assert chunk.heading == (above[-1].heading if above else "")
        assert not any(chunk.start < section.start < chunk.end for section in sections)


def test_a_short_text_is_one_passage() -> None:
    assert [(c.start, c.end) for c in split("  One.\n\nTwo.\n")] == [(2, 12)]


def test_paragraphs_stay_whole_where_they_fit() -> None:
    text = "\n\n".join(["word " * 8] * 6)
    for chunk in split(text, target_chars=100):
        assert text[chunk.start : chunk.end].count("word") % 8 == 0


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    text = "This is a sentence. " * 40
    passages = [text[c.start : c.end] for c in split(text, target_chars=100)]
    assert all(passage.endswith("sentence.") for passage in passages)


def test_a_long_section_is_cut_into_about_equal_parts() -> None:
    text = "word " * (TARGET_CHARS // 5 + 20)
    lengths = [chunk.end - chunk.start for chunk in split(text)]
    assert len(lengths) == 2
    assert min(lengths) > TARGET_CHARS // 3


@pytest.mark.parametrize("text", ["", " \n\t", "\r\n" * 50])
def test_nothing_but_white_space_gives_no_passage(text: str) -> None:
    assert split(text) == []


def test_a_text_without_any_break_is_cut_all_the_same() -> None:
    assert [c.end - c.start for c in split("x" * 25, target_chars=10)] == [10, 10, 5]
