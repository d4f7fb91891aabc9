"""The builtin functions as an engine, in the JSON that models are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nemoflows.calls import Answered, Outcome, Part, Reply, Request, Unusable
from nemoflows.calls.contract import MAX_QUOTES
from nemoflows.engines.base import Engine, OnAttempt
from nemoflows.engines.builtin.answers import compose
from nemoflows.engines.builtin.fields import fill
from nemoflows.engines.builtin.prose import readable
from nemoflows.engines.builtin.queries import plan, rewrite
from nemoflows.engines.builtin.quotes import extract
from nemoflows.engines.builtin.summaries import summarise, summarise_text
from nemoflows.language.sentences import sentences
from nemoflows.types import Evidence, Finding, Passage

CHARACTERS_PER_TOKEN = 4
"""Rough, as everywhere in English; holds a reply to its `max_output_tokens`."""
CHAT_SENTENCES = 3
MAX_QUESTIONS = 8


class Builtin(Engine):
    """Answers from the request's typed parts alone: same request, same bytes, no cost."""

    wire_version = "builtin-1"
    paid = False
    generates = False

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Answer by the rules of the request's purpose."""
        del on_attempt  # nothing is tried over a wire
        if request.purpose == "chat" and request.json_schema is not None:
            detail = "The builtin tier fills no schema of its own: name a model for this call."
            return Unusable(reason="invalid", detail=detail, reply=_reply(request, ""))
        text = _fitted(*_write(request), request.max_output_tokens * CHARACTERS_PER_TOKEN)
        if text is None:
            detail = f"Not one item fits {request.max_output_tokens} output tokens."
            cut = _reply(request, "").model_copy(update={"stop": "length"})
            return Unusable(reason="truncated", detail=detail, reply=cut)
        return Answered(reply=_reply(request, text))


def _reply(request: Request, text: str) -> Reply:
    return Reply(text=text, model=str(request.model))


def _parts(request: Request) -> list[Part]:
    """Return the parts of the last user turn that holds any data, else of the last one."""
    turns = [turn.parts for turn in request.messages if turn.role == "user"]
    typed = [parts for parts in turns if any(part.kind not in {"text", "error"} for part in parts)]
    return (typed or turns or [[]])[-1]


def _texts(parts: Sequence[Part], kind: str) -> list[str]:
    return [part.text for part in parts if part.kind == kind]


def _write(request: Request) -> tuple[str, list[Any]]:
    """Return the reply's one field and its items; no field where the reply is plain text."""
    parts, schema = _parts(request), request.json_schema or {}
    question = " ".join(_texts(parts, "question"))
    asked = _texts(parts, "query") or [question]
    passages = [_passage(part) for part in parts if part.kind == "passage"]
    most = schema.get("properties", {}).get("questions", {}).get("maxItems", MAX_QUESTIONS)
    evidence = [_piece(part) for part in parts if part.kind == "evidence"]
    writers: dict[str, Callable[[], tuple[str, list[Any]]]] = {
        "plan": lambda: ("questions", list(plan(question, most))),
        "extract": lambda: ("quotes", _marks(question, parts)),
        "rewrite": lambda: ("query", [rewrite(question, passages, asked)]),
        "summarise": lambda: ("summary", [summarise(evidence)]),
        "synthesise": lambda: ("sentences", _statements(question, parts)),
        "fields": lambda: ("record", [fill(schema, [passage.text for passage in passages])]),
    }
    return writers.get(request.purpose, lambda: ("", _said(parts)))()


def _passage(part: Part) -> Passage:
    return Passage(
        id=part.id,
        document=part.document or part.id,
        start=0,
        end=len(part.text),
        text=part.text,
        heading=part.heading,
        score=part.score,
    )


def _piece(part: Part) -> Evidence:
    # The place is unknown here: each distinct quote and heading stands for one.
    return Evidence(
        quote=part.text,
        document=f"{part.document}\n{part.heading}\n{part.text}",
        start=0,
        end=1,
        heading="" if part.heading == part.document else part.heading,
    )


def _marks(question: str, parts: Sequence[Part]) -> list[Any]:
    """Return the marks of the units that the best quotes begin and end in."""
    shown = {part.id: part.units for part in parts if part.kind == "passage"}
    passages = [_passage(part) for part in parts if part.kind == "passage"]
    marks = []
    for piece in extract(question, passages, k=MAX_QUOTES):
        units = enumerate(shown[piece.passage], 1)
        within = [n for n, (a, b) in units if a < piece.end and piece.start < b]
        ends = dict.fromkeys(f"{piece.passage}.{n}" for n in (within[:1] + within[-1:]))
        marks += ["-".join(ends)] if ends else []
    return marks


def _statements(question: str, parts: Sequence[Part]) -> list[Any]:
    """Return the composed sentences; each finding's evidence follows it.

    A text that begins with an empty line begins a paragraph.
    """
    groups: list[tuple[str, list[Part]]] = []
    for part in parts:
        if part.kind == "finding" or (part.kind == "evidence" and not groups):
            groups.append((part.heading if part.kind == "finding" else question, []))
        if part.kind == "evidence":
            groups[-1][1].append(part)
    marks = [int(part.id) for _, group in groups for part in group]
    findings = [Finding(question=q, evidence=list(map(_piece, group))) for q, group in groups]
    return [
        {
            "text": "\n\n" * (n > 0 and place == 0) + said.text,
            "citations": [marks[number - 1] for number in said.numbers],
        }
        for n, paragraph in enumerate(compose(question, findings))
        for place, said in enumerate(paragraph)
    ]


def _said(parts: Sequence[Part]) -> list[Any]:
    """Return the sentences that say most of the user's text."""
    text = "\n\n".join(part.text for part in parts if part.kind != "question")
    found = [each.text for each in sentences(text) if each.kind in {"prose", "bullet"}]
    title = " ".join([*_texts(parts, "question"), *(part.heading for part in parts)])
    places = summarise_text(title, found, n=CHAT_SENTENCES)
    return [readable(found[place]) for place in places]


def _fitted(field: str, items: list[Any], most_characters: int) -> str | None:
    """Return the reply's text with as many items as fit; None where items exist and none fits."""
    texts = (_shaped(field, items[:n]) for n in range(len(items), 0, -1))
    fitting = next((text for text in texts if len(text) <= most_characters), None)
    return fitting if items else _shaped(field, [])


def _shaped(field: str, items: list[Any]) -> str:
    if not field:
        return " ".join(items)
    single = field in {"query", "summary", "record"}
    return json.dumps({field: items[0] if single else items}, ensure_ascii=False)
