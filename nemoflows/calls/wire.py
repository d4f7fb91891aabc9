"""How text travels to a model: own words plain, data delimited, the reply shown again.

Text from documents, users' questions included, is data: it stands between delimiters that do not
occur inside it, so that no document can end its own quote. A delimiter holds the mark by which a
reply may refer to it and nothing else: what looks like a mark is taken for one by small models.
Same inputs, same bytes: nothing here depends on a clock, a server or a random draw.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from nemoflows.calls.values import Message, Part, Reply, Request, user

MAX_ERROR_CHARACTERS = 1000
MARK_CHARACTERS = 12
"""Of a unit's mark, with its brackets and the line end."""
_PLAIN_ID = re.compile(r"[^<>\x00-\x1f\x7f\x85\u2028\u2029]{0,100}")
"""Ids that may stand in a delimiter; others are data: a column's name may be anybody's."""
_FORGED = re.compile(r"\[(?=\s*[Pp]\d+\.\d+\s*\])")
_LINE_ENDS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")

AGAIN = "That reply cannot be used, for the reason above. Answer the request again."


def fence(text: str) -> str:
    """Return a word for delimiters that no delimiter inside the text has."""
    word = "data"
    while re.search(rf"</?\s*{word}(?![\w-])", text, re.IGNORECASE):
        word += "-"
    return word


def render(part: Part) -> str:
    """Return a part as a model reads it: own words plain, data delimited, its units numbered."""
    if part.kind == "text":
        return part.text
    is_plain = _PLAIN_ID.fullmatch(part.id) is not None
    mark = part.id if is_plain and part.id else part.kind
    title = " > ".join(dict.fromkeys(filter(None, (part.document, part.heading))))
    text = part.text
    if part.units:  # a document that writes marks, or breaks lines in a unit, has no more of them
        shown = (_FORGED.sub("(", _LINE_ENDS.sub(" ", text[a:b])) for a, b in part.units)
        text = "\n".join(f"[{part.id}.{n}] {unit}" for n, unit in enumerate(shown, 1))
        title = _FORGED.sub("(", _LINE_ENDS.sub(" ", title))
    body = "\n\n".join(filter(None, ["" if is_plain else part.id, title, text]))
    word = fence(body)
    return f"<{word} {mark}>\n{body}\n</{word} {mark}>"


def estimated_tokens(request: Request) -> int:
    """Return about how many input tokens a request takes, from its characters alone."""
    parts = [part for turn in request.messages for part in turn.parts]
    n_characters = sum(len(p.text) + len(p.heading) + len(p.document) for p in parts)
    n_marks = sum(len(part.units) for part in parts)
    return estimate_tokens(n_characters + MARK_CHARACTERS * n_marks + len(request.system))


def prefix_key(request: Request) -> str:
    """Return what tells a request's shared prefix from others; empty where it has none."""
    shared = shared_text(request)
    if not shared:
        return ""
    whole = "\0".join((str(request.model), request.system, shared))
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def shared_text(request: Request) -> str:
    """Return the leading parts of the first message that other requests begin with too."""
    return "\n\n".join(render(part) for part in request.messages[0].parts[: request.shared_parts])


def schema_words(schema: dict[str, Any]) -> str:
    """Tell a schema in words, for servers that promise JSON and no shape."""
    told = json.dumps(schema, ensure_ascii=False)
    return f"Answer with one JSON object that fits this JSON schema: {told}"


def go_on(request: Request, reply: Reply) -> Request:
    """Return the request that lets a model finish the turn in which it paused."""
    paused = Message(role="assistant", parts=[Part(text=reply.text)], blocks=reply.blocks)
    return request.model_copy(update={"messages": [*request.messages, paused]})


def ask_again(request: Request, *, reply_text: str, error: str) -> Request:
    """Return the request that shows a model its reply and what was wrong with it."""
    said = [Message(role="assistant", parts=[Part(text=reply_text)])] if reply_text else []
    turns = [
        *request.messages,
        *said,
        user([Part(kind="error", text=error[:MAX_ERROR_CHARACTERS]), Part(text=AGAIN)]),
    ]
    return request.model_copy(update={"messages": turns})


CHARACTERS_PER_TOKEN = 3.0
"""Of English text and common tokenisers, on the safe side.

Source: reference tokenisers give 3.5 to 4.5 characters of English per token; code and numbers give
fewer, so that the estimate errs towards too many tokens.
"""


def estimate_tokens(n_characters: int) -> int:
    """Return about how many tokens that many characters are; rather too many than too few."""
    return int(n_characters / CHARACTERS_PER_TOKEN) + 1
