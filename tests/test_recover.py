"""Replies that hold what was asked for in some wrapping: read before a second ask is paid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered, Reply, ToolCall, Unusable
from nemoflows.calls.contract import a_list, a_string, an_object
from nemoflows.calls.recover import finished, recovered, without_thoughts
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import INVALID, CallSpec, Failure, Success, read_outcome
from nemoflows.rag import steps
from nemoflows.types import Evidence, Finding, ModelRef
from tests.support import make_llm, request

PLAN = an_object(questions=a_list(a_string(400), 4))
ASKED = {"questions": ["How long is the Elbe?", "Where does it rise?"]}
TEXT = json.dumps(ASKED)
LINES = json.dumps(ASKED, indent=2)


def read(text: str = "", schema: dict[str, Any] = PLAN, **more: Any) -> Any:
    found = recovered(Reply(text=text, **more), schema)
    return None if found is None else json.loads(found.text)


WRAPPED = {
    "plain": TEXT,
    "a byte order mark": f"\ufeff{TEXT}",
    "a fence with a language": f"```json\n{LINES}\n```",
    "a fence without one": f"```\n{LINES}\n```",
    "several fences": f'A draft:\n```json\n{{"questions": ["x"]}}\n```\nBetter:\n```\n{LINES}\n```',
    "a fence of code before": f"```python\nasked = {{1: 2}}\n```\n\n~~~json\n{TEXT}\n~~~",
    "prose around": f"Sure! This is [the] object:\n{TEXT}\nAnything else? {{smile}}",
    "thoughts": f'<think>\nI think {{"questions": no}} of it.\n</think>\n\n{TEXT}',
    "a draft in the thoughts": f'<think>{{"questions": ["draft"]}}</think>{TEXT}',
    "thoughts without a beginning": f"An object is wanted.\n</think>\n{TEXT}",
    "thoughts without an end": f"<think>\nThe object has to be\n{TEXT}",
    "thoughts of another tag": f"<reasoning>hm, [</reasoning>{TEXT}",
    "thoughts in square brackets": f"[THINK]hm[/THINK]{TEXT}",
    "channels": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{TEXT}",
    "thoughts and a fence": f"<thinking>hm</thinking>\n```JSON\n{LINES}\n```",
    "a comma too many": TEXT[:-2] + ",],}",
    "a comma too few": LINES.replace('",\n', '"\n'),
    "comments": LINES.replace("{\n", "{ // one object\n").replace("[\n", "[ /* two */ # yes\n"),
    "curly quotes": TEXT.replace(' "', " “")
    .replace('"', "”")
    .replace("{”", "{“")
    .replace("[”", "[“"),
    "single quotes": repr(ASKED),
    "single curly quotes": TEXT.replace('"', "\u2019")
    .replace("[\u2019", "[\u2018")
    .replace(", \u2019", ", \u2018")
    .replace("{\u2019", "{\u2018"),
    "quotes of another language": TEXT.replace('"', "»"),
    "backticks": TEXT.replace('"', "`"),
    "names without quotes": TEXT.replace('"questions"', "questions"),
    "no end": TEXT[:-2],
    "a list of one": f"[{TEXT}]",
    "a key of its own": f'{{"result": {TEXT}, "note": "ok"}}',
    "a tool's call in words": f'<tool_call>{{"name": "reply", "arguments": {TEXT}}}</tool_call>',
    "text in text": json.dumps(TEXT),
    "text in text in text": json.dumps(json.dumps(TEXT)),
    "the list as text in text": json.dumps(json.dumps(ASKED["questions"])),
    "an object for each": json.dumps([{"question": each} for each in ASKED["questions"]]),
    "numbers as names": json.dumps({"questions": dict(enumerate(ASKED["questions"]))}),
    "text under a key": json.dumps({"arguments": TEXT}),
    "the list alone": json.dumps(ASKED["questions"]),
    "the list under another name": json.dumps({"sub_questions": ASKED["questions"]}),
    "another case": TEXT.replace("questions", "Questions"),
    "more than was asked for": f'{{"reason": "it has two parts", {TEXT[1:]}',
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED.keys())
def test_what_was_asked_for_is_found_in_its_wrapping(text: str) -> None:
    assert read(text) == ASKED


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("end", ["\n", "\n\nand\n"])
def test_items_without_their_list_are_all_of_it(n: int, end: str) -> None:
    item = an_object(text=a_string(99), citations={"type": "array", "items": {"type": "integer"}})
    said = [{"text": f"It is {word}.", "citations": [1]} for word in ("long", "wide")[:n]]
    schema = an_object(sentences=a_list(item, 4))
    assert read(end.join(map(json.dumps, said)), schema) == {"sentences": said}


def test_it_is_found_where_a_server_puts_it() -> None:
    call = ToolCall(id="1", name="reply", arguments=TEXT)
    assert read(tool_calls=[call]) == ASKED
    assert read(reasoning=f"They want an object: {TEXT}") == ASKED
    assert read("I cannot.", reasoning="Shall I?") is None


@pytest.mark.parametrize(
    "text", ["", "No plan is needed.", "{", '{"other": 1}', "[1]", "{]", "null"]
)
def test_what_is_not_there_is_not_made_up(text: str) -> None:
    assert read(text) is None


def test_quotes_and_backslashes_that_nobody_escaped_are_text() -> None:
    text = r'{"summary": "The "Elbe" runs to C:\data and \"out\" to \u00fc,'
    found = read(text + " says 'he'\"}", an_object(summary=a_string(99)))
    assert found == {"summary": 'The "Elbe" runs to C:\\data and "out" to ü, says \'he\''}


INTEGER = {"type": "integer"}
SCALARS = an_object(
    n=INTEGER,
    x={"type": "number"},
    yes={"type": "boolean"},
    kind={"enum": ["new customer", "P2.5", "P25"]},
    numbers={"type": "array", "items": {"type": "integer"}},
    words=a_list(a_string(9), 3),
    text=a_string(9),
    maybe={"anyOf": [{"type": "integer"}, {"type": "null"}]},
)
EXACT = {
    "n": 1, "x": 2.5, "yes": True, "kind": "new customer", "numbers": [1, 2],
    "words": ["a"], "text": "7", "maybe": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"n": "1", "x": "2.5", "yes": "true", "text": 7},
        {"n": 1.0, "yes": 1, "kind": "New_Customer.", "maybe": "null"},
        {"n": "[1]", "numbers": ["1", "2"], "words": "a"},
        {"maybe": float("nan"), "numbers": {"0": 1, "1": 2}},
        {"n": [1], "numbers": "1, 2", "kind": ["new customer"]},
        {"numbers": "[1][2]", "yes": "Yes", "text": ["7"]},
    ],
)
def test_values_whose_meaning_is_plain_are_of_the_schemas_type(changed: dict[str, Any]) -> None:
    assert read(json.dumps(EXACT | changed), SCALARS) == EXACT


def test_nothing_is_a_list_of_nothing_and_what_is_not_plain_stays() -> None:
    assert read(json.dumps(EXACT | {"numbers": None}), SCALARS)["numbers"] == []
    odd = {"n": "one or two", "kind": "p2.5.", "numbers": ["first"], "maybe": "3"}
    found = read(json.dumps(EXACT | odd), SCALARS)
    assert found == EXACT | odd | {"kind": "P2.5", "maybe": 3}


def test_a_choice_stands_alone_in_words() -> None:
    assert read("{kind: low, n: 3}", an_object(kind={"enum": ["low"]}, n=INTEGER))["kind"] == "low"
    label = an_object(label={"enum": ["billing", "other"]})
    assert read("<think>hm</think>\n**Billing**", label) == {"label": "billing"}
    assert read("It is about billing or other things.", label) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>a</think> It is blue.", "It is blue."),
        ("a\n</think>It is blue.", "It is blue."),
        ("<think>a <think>b</think> c</think>It is blue.", "It is blue."),
        ("<think>It never ends", ""),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it."),
    ],
)
def test_thoughts_are_cut_off_a_plain_text(text: str, said: str) -> None:
    assert without_thoughts(text) == said


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="<think>It never ends"),
        Reply(text="<think>a</think>\n "),
        Reply(text="", reasoning="So it has to be"),
    ],
)
def test_thoughts_alone_are_no_plain_text(reply: Reply) -> None:
    spec = CallSpec(request(), lambda reply, _: reply.text)
    found = read_outcome(spec, Answered(reply=reply), final=True)
    assert isinstance(found, Failure)
    assert (found.reason, found.detail) == (INVALID, "The reply holds thoughts alone.")


@pytest.mark.parametrize(
    "piece", ["{", '{"', "{'a", "[/*", "<think>", '"' + " " * 9, "{a:1,", "“", "[{"]
)
def test_hostile_replies_are_read_in_bounded_effort(piece: str) -> None:
    """A reading that went back and forth would take minutes here."""
    assert read(piece * (200_000 // len(piece))) is None


def test_what_is_read_is_not_asked_for_again(tmp_path: Path) -> None:
    said = {
        "plan": f"<think>a plan</think>```json\n{LINES}\n```",
        "synthesise": '{"sentences": [{"text": "It is so.", "citations": ["1"]}],}',
    }
    engine = FakeEngine([Rule(purpose=purpose, reply=text) for purpose, text in said.items()])
    client = BoundClient(make_llm(engine, tmp_path), ModelRef.model_validate("fake:x"))
    plan = asyncio.run(steps.plan_research("Q?", client=client, n=3))
    assert plan.questions == ["Q?", *ASKED["questions"]]
    quote = Evidence(quote="so", document="d", start=0, end=2)
    finding = Finding(question="Q?", summary="So.", evidence=[quote])
    answer = asyncio.run(steps.synthesise("Q?", [finding], client=client))
    assert answer.text == "It is so. [1]"
    assert len(engine.asked) == 2


CUT = {
    "white space behind it": (TEXT + "\n" * 40, True),
    "words behind it": (f"```json\n{LINES}\n```\n\nThe first one asks for the", True),
    "thoughts before it": (f"<think>{{}}</think>{TEXT} ", True),
    "the last bracket is gone": (TEXT[:-1], False),
    "in the middle": (TEXT[:30], False),
    "a draft in thoughts without an end": (f"<think>{TEXT} or rather", False),
    "an object inside it": ('{"plan": ' + TEXT, False),
    "another object": ('{"first": 1} {"questions": ["How', False),
    "words alone": ("The Elbe", False),
    "endless nesting": ("[" * 100_000, False),
}


@pytest.mark.parametrize("name", CUT)
def test_what_was_cut_off_behind_a_whole_object_is_answered(name: str) -> None:
    text, whole = CUT[name]
    cut = Unusable(reason="truncated", detail="Cut off.", reply=Reply(text=text, stop="length"))
    assert isinstance(finished(cut, PLAN), Answered) is whole
    assert finished(cut, None) is cut


def test_a_whole_object_is_not_asked_for_again(tmp_path: Path) -> None:
    engine = FakeEngine([Rule(fault="truncated", reply=TEXT + " " * 99)])
    asked = request().model_copy(update={"json_schema": PLAN})
    for _ in range(2):
        llm = make_llm(engine, tmp_path / "j")
        found = asyncio.run(llm.complete(CallSpec(asked, lambda reply, _: json.loads(reply.text))))
        assert isinstance(found, Success)
        assert found.value == ASKED
        assert [spent.reason for spent in llm.spent] == [""], "it is no reply that is of no use"
    assert len(engine.asked) == 1
