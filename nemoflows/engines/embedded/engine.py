"""The embedded functions as an engine, in the JSON that models are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nemoflows.calls import Answered, Outcome, Part, Reply, Request, Unusable
from nemoflows.engines.embedded.answers import compose
from nemoflows.engines.embedded.fields import fill
from nemoflows.engines.embedded.hops import rewrite
from nemoflows.engines.embedded.prose import readable
from nemoflows.engines.embedded.questions import plan
from nemoflows.engines.embedded.quotes import extract
from nemoflows.engines.embedded.summaries import summarise, summarise_text
from nemoflows.engines.embedded.weights import Bag, ask, coverage
from nemoflows.engines.protocol import OnAttempt, Vectors
from nemoflows.errors import BadModel
from nemoflows.language.sentences import sentences
from nemoflows.types import Evidence, Finding, ModelRef, Passage

CHARACTERS_PER_TOKEN = 4
"""Rough, as everywhere in English; holds a reply to its `max_output_tokens`."""
CHAT_SENTENCES = 3
MAX_QUOTES = 6
MAX_QUESTIONS = 8


class Embedded:
    """Answers from the request's typed parts alone: same request, same bytes, no cost."""

    paid = False
    adapter = "embedded-1"

    def identity(self, model: ModelRef) -> str:
        """Return the spelling."""
        return str(model)

    async def preflight(self, model: ModelRef) -> None:
        """Need nothing."""

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Answer by the rules of the request's purpose."""
        del on_attempt  # nothing is tried over a wire
        if request.purpose == "chat" and request.json_schema is not None:
            detail = "The embedded tier fills no schema of its own: name a model for this call."
            return Unusable(reason="invalid", detail=detail, reply=_reply(request, ""))
        text = _fitted(_write(request), request.max_output_tokens * CHARACTERS_PER_TOKEN)
        if text is None:
            detail = f"Not one item fits {request.max_output_tokens} output tokens."
            cut = _reply(request, "").model_copy(update={"stop": "length"})
            return Unusable(reason="truncated", detail=detail, reply=cut)
        return Answered(reply=_reply(request, text))

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Refuse: there are no vectors without a model.

        Raises:
            BadModel: Always.
        """
        raise BadModel(
            f"{model} has no vectors ({len(texts)} texts, query={query}). Leave the embedder "
            "empty for a lexical index, or name an embedding model."
        )

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Return the weighted share of the query's terms in each text."""
        del model
        bags = [Bag(text) for text in texts]
        asked = ask(query, [bag.terms for bag in bags])
        return [coverage(asked.weights, bag) for bag in bags]

    async def aclose(self) -> None:
        """Hold nothing, so give back nothing."""


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
    parts = _parts(request)
    question = " ".join(_texts(parts, "question"))
    asked = _texts(parts, "query") or [question]
    writers: dict[str, Callable[[], tuple[str, list[Any]]]] = {
        "plan": lambda: ("questions", list(plan(question, _most(request)))),
        "extract": lambda: ("quotes", _quotes(question, parts)),
        "rewrite": lambda: ("query", [rewrite(question, _passages(parts), asked)]),
        "summarise": lambda: ("summary", [summarise(question, _evidence(parts))]),
        "synthesise": lambda: ("sentences", _statements(question, parts)),
        "fields": lambda: ("record", [fill(request.json_schema or {}, _texts(parts, "passage"))]),
    }
    return writers.get(request.purpose, lambda: ("", _said(parts)))()


def _most(request: Request) -> int:
    """Return how many questions the schema allows."""
    questions = (request.json_schema or {}).get("properties", {}).get("questions", {})
    return int(questions.get("maxItems", MAX_QUESTIONS))


def _passages(parts: Sequence[Part]) -> list[Passage]:
    return [
        Passage(
            id=part.id,
            document=part.document or part.id,
            start=0,
            end=len(part.text),
            text=part.text,
            heading=part.heading,
            score=part.score,
        )
        for part in parts
        if part.kind == "passage"
    ]


def _quotes(question: str, parts: Sequence[Part]) -> list[Any]:
    found = extract(question, _passages(parts), k=MAX_QUOTES)
    return [{"passage": piece.passage, "quote": piece.quote} for piece in found]


def _piece(part: Part, number: int) -> Evidence:
    # The place is unknown here: one number per distinct quote and heading stands for it.
    return Evidence(
        quote=part.text,
        document=f"{part.document}\n{part.heading}\n{part.text}",
        start=number,
        end=number + 1,
        heading="" if part.heading == part.document else part.heading,
    )


def _evidence(parts: Sequence[Part]) -> list[Evidence]:
    return [_piece(part, n) for n, part in enumerate(parts) if part.kind == "evidence"]


def _statements(question: str, parts: Sequence[Part]) -> list[Any]:
    """Return the composed sentences; each finding's evidence follows it.

    A text that begins with an empty line begins a paragraph.
    """
    findings: list[Finding] = []
    marks: list[str] = []
    for part in parts:
        if part.kind == "finding" or (part.kind == "evidence" and not findings):
            findings.append(Finding(question=part.heading if part.kind == "finding" else question))
        if part.kind == "evidence":
            marks.append(part.id)
            evidence = [*findings[-1].evidence, _piece(part, 0)]
            findings[-1] = findings[-1].model_copy(update={"evidence": evidence})
    return [
        {
            "text": "\n\n" * (n > 0 and place == 0) + said.text,
            "citations": [int(marks[number - 1]) for number in said.numbers],
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


def _fitted(written: tuple[str, list[Any]], most_characters: int) -> str | None:
    """Return the reply's text with as many items as fit; None where items exist and none fits."""
    field, items = written
    for n in range(len(items), 0, -1):
        text = _shaped(field, items[:n])
        if len(text) <= most_characters:
            return text
    return _shaped(field, []) if not items else None


def _shaped(field: str, items: list[Any]) -> str:
    if not field:
        return " ".join(items)
    value: Any = "".join(items) if field in {"query", "summary"} else items
    value = items[0] if field == "record" else value
    return json.dumps({field: value}, ensure_ascii=False)
