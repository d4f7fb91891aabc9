"""Finding the JSON that was asked for in a reply that is not it, or not quite.

Models and servers wrap what they were asked for: in thoughts, fences and prose, in a tool call's
arguments, under a key of their own. All of it is read before a second ask is paid. Pure, and linear
in the reply's length: text is a model's, so nothing here may take long or go deep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from nemoflows.calls import coerce
from nemoflows.calls.values import Answered, Reply, Unusable

MOST_CHARACTERS = 1_000_000
"""Longest text that is searched; far more than any limit of output tokens lets through."""
MOST_DEPTH = 64
"""Deepest nesting that is followed."""
EFFORT = 8
"""Times its own length that a text is read at most, over all places where JSON may begin."""

_NAMES = r"(?:\w{1,20}:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad)"
_BEGINS = re.compile(
    rf"<{_NAMES}\s*+>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>"
    r"|<\|channel\|>\s*+analysis\s*+<\|message\|>",
    re.IGNORECASE,
)
_ENDS = re.compile(
    rf"</{_NAMES}\s*+>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>"
    r"|<\|channel\|>\s*+final\s*+<\|message\|>",
    re.IGNORECASE,
)
"""What reasoning models put around their thoughts, where a server leaves it in.

Source: chat templates of DeepSeek-R1, Qwen 3, Nemotron, Magistral, Kimi, Seed-OSS, Command A
Reasoning and gpt-oss.
"""

_BEHIND = r"""\s*+(?:[\]},:]|//|/\*|\#|\Z)|[^\S\n]*+\n\s*+["']"""
"""What stands behind a text's end, and not behind a quote that somebody forgot to escape."""
_TOKEN = re.compile(
    rf"""(?P<skip>\s++|//[^\n]*+|\#[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?+)
    |(?P<text>"(?:[^"\\]|\\.|"(?!{_BEHIND}))*+"
             |'(?:[^'\\]|\\.|'(?!{_BEHIND}))*+'
             |[“„](?:[^"”“\\]|\\.)*+[”“"]|[\u2018\u201a](?:[^\u2019\\]|\\.|\u2019(?!{_BEHIND}))*+\u2019
             |[«»](?:[^«»\\]|\\.)*+[«»]|`(?:[^`\\]|\\.)*+`)
    |(?P<open>[{{\[])|(?P<close>[}}\]])|(?P<comma>,)|(?P<colon>:)
    |(?P<bare>[^\s{{}}\[\],:"'“”„\u2018\u201a«»`]++)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORDS = {"true": "true", "false": "false"} | dict.fromkeys(
    ("null", "none", "nan", "undefined"), "null"
)
_CLOSES = {"{": "}", "[": "]"}
_OPENS = re.compile(r"[{\[]")
_BEGINS_JSON = re.compile(r"\s*+(?:```\w*+\s++)?(?=[{\[])")
_KEY = re.compile(r"\s*+:")
_ESCAPED = re.compile(r'\\u[0-9a-fA-F]{4}|\\.|"', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')


class Found(NamedTuple):
    """A JSON value in a text, None where there is none, and how far the text was read."""

    value: Any
    end: int


def without_thoughts(text: str) -> str:
    """Return what a model says behind its thoughts; nothing where they have no end.

    A tag in the middle of a text is the text's own, unless it closes what nothing opened.
    """
    begun, ends = _BEGINS.search(text), list(_ENDS.finditer(text))
    leads = begun is not None and not text[: begun.start()].strip()
    if ends and (leads or begun is None or ends[0].start() < begun.start()):
        return text[ends[-1].end() :].strip()
    return "" if leads else text.strip()


def recovered(reply: Reply, schema: dict[str, Any] | None) -> Reply | None:
    """Return the reply with the object that was asked for as its text; None where it holds none.

    Without a schema that is what stands behind the thoughts; None where these are all there is.
    """
    if schema is None:
        said = without_thoughts(reply.text)
        alone = not said and not reply.tool_calls and bool(reply.text.strip() or reply.reasoning)
        return None if alone else reply.model_copy(update={"text": said})
    for text in _places(reply):
        values = coerce.listed(list(_values(text)) or [text], schema)
        fitted = [coerce.fit(value, schema) for value in values]
        scores = [coerce.score(value, schema) for value in fitted]
        best = max(range(len(scores)), key=lambda n: (scores[n], n))  # the last says it finally
        if scores[best]:
            told = json.dumps(fitted[best], ensure_ascii=False)
            return reply.model_copy(update={"text": told})
    return None


def finished(cut: Unusable, schema: dict[str, Any] | None) -> Answered | Unusable:
    """Return a reply that was cut off as answered, where the object that was asked for is whole.

    What the limit cut is the white space or the words that a model wrote behind it.
    """
    text = without_thoughts(cut.reply.text)
    begins = _BEGINS_JSON.match(text)
    if schema is None or begins is None:
        return cut
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, begins.end())
    except (ValueError, RecursionError):
        return cut
    return Answered(reply=cut.reply) if coerce.score(value, schema) == 1 else cut


def _places(reply: Reply) -> Iterator[str]:
    """Yield the texts in which the object may stand, the likeliest first."""
    texts = [without_thoughts(reply.text), *(call.arguments for call in reply.tool_calls)]
    texts += [reply.text, without_thoughts(reply.reasoning), reply.reasoning]
    for text in dict.fromkeys(texts):
        if text.strip() and len(text) <= MOST_CHARACTERS:
            yield text


def _values(text: str) -> Iterator[Any]:
    """Yield the objects and lists that stand in a text, strict JSON or nearly."""
    try:
        yield json.loads(text, strict=False, parse_constant=_null)
    except (ValueError, RecursionError):
        pass
    else:
        return
    at, left = 0, EFFORT * len(text)
    while left > 0 and (begins := _OPENS.search(text, at)):
        found = _value(text, begins.start())
        left -= found.end - begins.start()
        if found.value is None:
            at = begins.end()
        else:
            at = found.end
            yield found.value


def _value(text: str, start: int) -> Found:
    """Return the object or list that begins at `start`; None where there is none."""
    out: list[str] = []
    closers: list[str] = []
    before, at = "open", start
    while at < len(text) and (closers or not out):
        token = _TOKEN.match(text, at)
        if token is None:  # a text without an end, which was looked for in all that follows
            return Found(None, len(text))
        at, kind, told = token.end(), token.lastgroup or "", token[0]
        if kind == "skip" or (kind == "comma" and before != "value"):
            continue
        written = _written(kind, told, text, at, is_value=before == "colon")
        if written is None or len(closers) > MOST_DEPTH:
            return Found(None, at)
        if kind == "close" and told != closers.pop():
            return Found(None, at)
        if kind == "open":
            closers.append(_CLOSES[told])
        # A comma is written before what follows it, so that one at the end is none.
        is_next = kind in {"open", "text", "bare"} and before in {"comma", "value"}
        out.append("," + written if is_next else written)
        before = kind if kind in {"open", "colon", "comma"} else "value"
    if before != "value":
        return Found(None, at)
    return _loaded("".join(out) + "".join(reversed(closers)), at)


def _loaded(written: str, at: int) -> Found:
    try:
        return Found(json.loads(written, strict=False), at)
    except (ValueError, RecursionError):
        return Found(None, at)


def _null(_: str) -> None:
    """Read NaN and infinities, which JSON has not, as null."""


def _written(kind: str, told: str, text: str, at: int, *, is_value: bool) -> str | None:
    """Return a token as JSON writes it; None where nothing says what it means."""
    if kind == "text":
        return '"' + _ESCAPED.sub(_escaped, told[1:-1]) + '"'
    if kind != "bare":
        return "" if kind == "comma" else told
    if _KEY.match(text, at):
        return json.dumps(told)
    if _NUMBER.fullmatch(told):
        number = told.removeprefix("+").rstrip(".")
        return f"0{number}" if number.startswith(".") else number
    return _WORDS.get(told.lower()) or (json.dumps(told) if is_value else None)


def _escaped(found: re.Match[str]) -> str:
    """Return a quote or an escape as JSON has it; of unknown escapes the backslash is text."""
    told = found[0]
    if told == '"':
        return '\\"'
    if told == "\\'":
        return "'"
    return told if _ESCAPE.fullmatch(told) else "\\" + told
