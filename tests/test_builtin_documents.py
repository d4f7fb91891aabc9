"""Questions about a folder of packages' documents, as a person asks them."""

from __future__ import annotations

import asyncio

import pytest

from nemoflows.calls import Answered
from nemoflows.engines.builtin import Builtin, extract, synthesise
from nemoflows.engines.builtin.prose import is_code, readable
from nemoflows.engines.fake import request_text
from nemoflows.language.answer_types import answer_type
from nemoflows.language.sentences import sentences
from nemoflows.language.titles import subjects
from nemoflows.rag import prompts
from nemoflows.rag.types import Answer
from nemoflows.types import Evidence, Finding, ModelRef, Passage
from tests.support import extract_request, read_quotes

BUILTIN = ModelRef()
FERRY = """# Ferry

[![badge](x.svg)](y)

Ferry carries typed values between tasks. It works on Linux, macOS and Windows.

## Installation

You can install `ferry` with pip:

```bash
pip install ferry
```

## Speed

| Package | Time      |
|---------|-----------|
| ferry   | 2.39 sec. |
| barge   | 61.02 sec.|
"""
BARGE = """# Barge

Barge is a queue for heavy values. It needs a server.

## License

Barge is released under the MIT license. Older releases are under the BSD license.
"""
WAIT = '''class wait_doubling(wait_base):
    """Wait twice as long after every failed attempt.

    The first wait is one second.

    Args:
        limit (float): Seconds that no wait exceeds.
            Defaults to 60.
        jitter (bool): Add up to a second at random.
    """

    def __call__(self, state: "State") -> float:
        return min(self.limit, 2**state.n_attempts)
'''


def piece(text: str, part: str, document: str, heading: str = "") -> Passage:
    start = text.index(part)
    end = start + len(part)
    return Passage(
        id=f"{document}:{start}-{end}",
        document=document,
        start=start,
        end=end,
        text=part,
        heading=heading,
    )


def of(text: str, document: str, heading: str = "") -> Passage:
    return piece(text, text, document, heading)


READMES = [
    of(FERRY, "ferry-2.1.0/README.md", "Ferry"),
    of(BARGE, "barge-0.3/README.md", "Barge"),
]
CODE = of(WAIT, "retrying-9/retrying/wait.py", "retrying-9.retrying.wait.wait_doubling")


def quotes(question: str, passages: list[Passage]) -> list[str]:
    return [each.quote for each in extract(question, passages)]


def answer(question: str, passages: list[Passage]) -> str:
    finding = Finding(question=question, evidence=extract(question, passages))
    return synthesise(question, [finding])


def through_the_engine(question: str, passages: list[Passage]) -> Answer:
    """Answer by requests and replies, as a run does."""

    async def ask() -> Answer:
        asked = await Builtin().complete(extract_request(question, passages), lambda _: None)
        assert isinstance(asked, Answered)
        evidence = read_quotes(asked.reply, passages, final=False)
        found = [Finding(question=question, evidence=evidence)]
        said = await Builtin().complete(prompts.synthesise(question, found), lambda _: None)
        assert isinstance(said, Answered)
        written = prompts.read_answer(said.reply, found, final=False)
        return Answer(question=question, text=written.text, citations=written.citations)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("rich-15.0.0/README.md", [{"rich"}]),
        ("torch-2.13.0+cpu/README.md", [{"torch"}]),
        ("docs/guide/retrying.md", [{"retri"}]),
        ("pydantic-settings-2.16.3/README.md", [{"pydant", "set"}]),
        ("README.md", []),
        ("table.jsonl#12", []),
        ("", []),
    ],
)
def test_a_path_names_what_a_document_is_about(document: str, named: list[set[str]]) -> None:
    assert [set(name) for name in subjects(document)] == named


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("what is ferry", "ferry-2.1.0/README.md"),
        ("what is barge", "barge-0.3/README.md"),
        ("does ferry work on windows?", "ferry-2.1.0/README.md"),
        ("how do I install ferry?", "ferry-2.1.0/README.md"),
        ("What license is barge released under?", "barge-0.3/README.md"),
    ],
)
def test_only_the_document_that_the_question_names_answers(question: str, document: str) -> None:
    found = extract(question, READMES)
    assert found
    assert {each.document for each in found} == {document}


@pytest.mark.parametrize(
    "question",
    [
        "What license is ferry released under?",
        "what license does raft use",
        "Does raft support queues?",
        "When was ferry first released?",
        "Does ferry support transactions?",
        "Who wrote Barge?",
    ],
)
def test_what_another_document_says_is_no_answer(question: str) -> None:
    assert extract(question, READMES) == []


def test_a_lead_in_is_quoted_with_the_code_that_it_announces() -> None:
    [first, *_] = extract("How do I install ferry?", READMES)
    assert first.quote == "You can install `ferry` with pip:\n\n```bash\npip install ferry\n```"
    assert FERRY[first.start : first.end] == first.quote
    assert readable(first.quote) == "You can install `ferry` with pip: `pip install ferry`"


def test_a_lead_in_is_quoted_with_the_list_that_it_announces() -> None:
    text = (
        "Ferry runs on these systems:\n\n- Linux,\n- macOS,\n- **Windows**.\n\nThat is all of it."
    )
    [first, *_] = quotes("Which systems does Ferry run on?", [of(text, "ferry/a.md")])
    assert first == text[: text.index("\n\nThat")]
    assert readable(first) == "Ferry runs on these systems: Linux; macOS; Windows."


def test_a_list_too_long_to_quote_stays_out() -> None:
    text = "Ferry runs on these systems:\n\n" + "\n".join(f"- system {n} " * 9 for n in range(20))
    found = quotes("Which systems does Ferry run on?", [of(text, "ferry/a.md")])
    assert all(len(quote) <= 600 for quote in found)


def test_a_small_table_answers_a_comparison_by_its_rows() -> None:
    [first, *_] = quotes("How fast is ferry compared to barge in sec?", READMES[:1])
    assert first.startswith("| Package")
    assert readable(first) == "Package, Time; ferry, 2.39 sec; barge, 61.02 sec."


def test_documentation_of_code_is_quoted_under_its_name_and_code_is_not() -> None:
    said = answer("How do I wait twice as long after every failed attempt?", [CODE])
    assert said.startswith("`wait_doubling`: Wait twice as long after every failed attempt. [1]")
    assert "def " not in said
    assert "class " not in said


def test_an_argument_is_quoted_whole_where_it_is_asked_for() -> None:
    [first, *_] = quotes("What is the limit in seconds of wait_doubling?", [CODE])
    assert first == "limit (float): Seconds that no wait exceeds.\n            Defaults to 60."


def test_definitions_that_read_alike_are_told_apart_by_their_names() -> None:
    alike = [
        Evidence(
            quote="Wait strategy that applies exponential backoff.",
            document="wait.py",
            start=n,
            end=n + 47,
            heading=f"retrying.wait.{name}",
        )
        for n, name in enumerate(["wait_doubling", "wait_jitter"])
    ]
    question = "Which wait strategy applies exponential backoff?"
    assert synthesise(question, [Finding(question=question, evidence=alike)]) == (
        "`wait_doubling`: Wait strategy that applies exponential backoff. [1] "
        "`wait_jitter`: Wait strategy that applies exponential backoff. [2]"
    )


def test_a_definition_stands_alone() -> None:
    assert answer("What is Barge?", READMES) == "Barge is a queue for heavy values. [1]"


@pytest.mark.parametrize("question", ["What does tqdm do?", "What is wrapt used for?", "what is x"])
def test_what_a_thing_does_asks_for_its_definition(question: str) -> None:
    assert answer_type(question) == "definition"


@pytest.mark.parametrize(
    "text",
    [
        'if typing.TYPE_CHECKING:\n    import types\n    retry = "coroutine"',
        "@t.overload\ndef retry(fn: Coroutine) -> Coroutine: ...",
        '"retry": "coroutine",\n"other": "value",',
    ],
)
def test_code_that_does_nothing_is_never_an_answer(text: str) -> None:
    assert quotes("How do I retry a coroutine?", [of(text, "retrying/a.py")]) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sleep = dkw.get('x'); retry(fn=sleep)", True),
        ('"is deprecated", DeprecationWarning, stacklevel=2, call(a=1)', True),
        ("Wait strategy that applies exponential backoff (with jitter).", False),
        ("Use `retry(stop=stop_after_attempt(3))` to stop after three attempts.", False),
        ("See [the guide](https://x.y/?a=b&c=d) for max_tokens and more of it.", False),
    ],
)
def test_code_in_the_place_of_prose_is_told_by_its_signs(text: str, code: bool) -> None:
    assert is_code(text) is code


@pytest.mark.parametrize(
    "label", ["Args:", "Example::", "Returns:", "Example usage:", "    Raises:"]
)
def test_a_label_on_a_line_of_its_own_is_a_heading(label: str) -> None:
    found = sentences(f"Carry a value.\n\n{label}\n\nAnother sentence.")
    assert [each.kind for each in found] == ["prose", "heading", "prose"]


def test_a_sentence_torn_by_the_passages_edge_comes_after_whole_ones() -> None:
    text = "is carried by ferry at night. The ferry carries mail at night."
    torn = of(text, "harbour.md").model_copy(update={"start": 500, "end": 500 + len(text)})
    assert quotes("What does the ferry carry at night?", [torn])[0].startswith("The ferry")


def test_the_engine_knows_the_document_too() -> None:
    found = through_the_engine("What license is barge released under?", READMES)
    assert found.text.startswith("Barge is released under the MIT license. [1]")
    assert {each.document for each in found.citations} == {"barge-0.3/README.md"}
    for each in found.citations:
        assert BARGE[each.start : each.end] == each.quote


def test_every_document_is_named() -> None:
    moved = [each.model_copy(update={"document": "elsewhere.md"}) for each in READMES]
    asked, other = (extract_request("What is Barge?", passages) for passages in (READMES, moved))
    assert "elsewhere.md" in request_text(other)
    assert asked.key() != other.key()
