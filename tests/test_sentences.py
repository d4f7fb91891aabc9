from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoflows.language.sentences import sentences

PAGE = """# Retrying

Dr. J. R. Smith paid $3.50 in the U.S. in 1999. He left at 5 p.m. to rest.
It is hard, e.g. for him. "Why?" Nobody knows![2] See Fig. 3 and No. 5.

- first item. It has two
  lines of text.
- second item

```python
x = 1.  # a comment. Not a sentence.

# not a heading
```
After the code.

| a | b |
|---|---|
| 1 | 2 |

    indented()
    code()

[![badge](x.svg)](y)

Underlined
----------
End of it. Version 2.0. What now
"""


def texts(text: str, kind: str) -> list[str]:
    return [each.text for each in sentences(text) if each.kind == kind]


def test_prose_splits_at_sentence_ends_and_nowhere_else() -> None:
    assert texts(PAGE, "prose") == [
        "Dr. J. R. Smith paid $3.50 in the U.S. in 1999.",
        "He left at 5 p.m. to rest.",
        "It is hard, e.g. for him.",
        '"Why?"',
        "Nobody knows![2]",
        "See Fig. 3 and No. 5.",
        "After the code.",
        "End of it.",
        "Version 2.0.",
        "What now",
    ]


def test_code_stays_whole() -> None:
    fenced = "```python\nx = 1.  # a comment. Not a sentence.\n\n# not a heading\n```"
    assert texts(PAGE, "code") == [fenced, "    indented()\n    code()"]


def test_headings_tables_bullets_and_badges_are_told_apart() -> None:
    assert texts(PAGE, "heading") == ["# Retrying", "Underlined\n----------"]
    assert texts(PAGE, "table") == ["| a | b |\n|---|---|\n| 1 | 2 |"]
    assert texts(PAGE, "markup") == ["[![badge](x.svg)](y)"]
    assert texts(PAGE, "bullet") == [
        "- first item.",
        "It has two\n  lines of text.",
        "- second item",
    ]


@pytest.mark.parametrize(
    "text", [PAGE, "", "   ", "\n\n", "```\nopen", "One.\r\nTwo.\r\n", "é. Ü. ß?"]
)
def test_offsets_give_back_the_text(text: str) -> None:
    for each in sentences(text):
        assert text[each.start : each.end] == each.text


@given(st.text(alphabet='ab .!?\n`-#|"A1\u3002>=(', max_size=200))
def test_no_text_breaks_the_offsets_or_loses_letters(text: str) -> None:
    found = sentences(text)
    place = 0
    for each in found:
        assert place <= each.start < each.end <= len(text)
        assert text[each.start : each.end] == each.text
        place = each.end
    kept = "".join(each.text for each in found)
    assert [c for c in kept if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("In World War I. The war ended.", 2),
        ("He met J. Smith. They talked.", 2),
        ("It cost 1.5 million. Not 2.", 2),
        ("He lives in the U.S. The end.", 2),
        ("He lives in the U.S. Army barracks.", 1),
        ("Use e.g. Python or i.e. this.", 1),
        ("Wait... what is it? Nothing!", 2),
        ("So says Brown et al. in 2010. True.", 2),
        ("\u4e00\u3002\u4e8c\uff01\u4e09", 3),
        ("He said (see p. 4). Then left.", 2),
    ],
)
def test_full_stops_that_end_nothing_are_known(text: str, n: int) -> None:
    assert len(sentences(text)) == n


def test_a_passage_cut_inside_a_fence_keeps_its_code_as_code() -> None:
    torn = "x = call(1)\nprint(x). Done\n```\n\nProse follows here."
    assert texts(torn, "prose") == ["Prose follows here."]
    assert texts("Before it.\n\n```python\nx = 1\n", "code") == ["```python\nx = 1"]


def test_a_docstring_in_code_reads_as_prose() -> None:
    source = 'def stop(self):\n    """Stop after a while. Then rest."""\n    return self.x\n'
    assert texts(source, "prose") == ["Stop after a while.", "Then rest."]
    assert texts(source, "code") == ["def stop(self):", "    return self.x"]


def test_lines_of_fields_are_one_record_and_a_long_or_nested_one_is_parted_by_its_keys() -> None:
    fields = "Name: click\nVersion: 8.1\nLicense: BSD"
    assert texts(f"{fields}\n\nProse.", "record") == [fields]
    nested = "pool:\n  size: 4\n  wait: 9 s\nlog:\n  file: a.log\n  keep: 7"
    assert texts(nested, "record") == [
        nested[: nested.index("\nlog")],
        nested[nested.index("log") :],
    ]
    long = [f"Field {n}: {'word ' * 12}end" for n in range(6)]
    assert texts("\n".join(long), "record") == long


@pytest.mark.parametrize(
    "text",
    [
        "Note: it rains.\nIt rained for long.",
        "See http://a.b\nand http://c.d",
        "At 12:30.\nAt 13:00.",
    ],
)
def test_lines_that_only_hold_a_colon_are_no_record(text: str) -> None:
    assert texts(text, "record") == []


def test_sentences_of_one_paragraph_share_its_number() -> None:
    found = sentences("One. Two.\n\nThree.")
    assert [each.block for each in found] == [0, 0, 1]
