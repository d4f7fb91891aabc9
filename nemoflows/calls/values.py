"""One model call as values: the request, its key, the reply and the three outcomes.

The key is the identity of a request: two requests with one key have one answer.
What decides the answer is in it; where and when the call is made is not.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, AliasChoices, Field

from nemoflows.types import ModelRef, Value

KEY_VERSION = 1
"""Raised whenever the canonical form below changes; a golden test holds it to that."""


def well_formed(text: str) -> str:
    """Return `text` with lone surrogates replaced: they have no UTF-8 and break every journal."""
    if text.isascii():  # most are, and telling so costs a tenth of encoding them
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


Text = Annotated[str, AfterValidator(well_formed)]
"""Text that can be written as UTF-8."""


def well_formed_json(value: Any) -> Any:
    """Return JSON whose texts can be written as UTF-8: escapes can smuggle lone surrogates in."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [well_formed_json(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): well_formed_json(item) for key, item in value.items()}
    return value


Object = dict[str, Any]
"""A free JSON object. Its order counts: a model writes fields in the order of the schema."""

Blocks = Annotated[list[Object], AfterValidator(well_formed_json)]
"""Opaque blocks of a provider's."""

_NOT_IN_KEY = {"model"}

LAST = 3
"""Priority of what is no step of an agent: no step waits for it."""

THINKING_ROOM_TOKENS = 8192
"""Output tokens that thinking without a budget may take on top of the reply's own."""


def _true_price(usd: float | None) -> float | None:
    """Return a price; None for what can be none, such as one of a count that was not true."""
    return usd if usd is not None and 0 <= usd < math.inf else None


Price = Annotated[float | None, AfterValidator(_true_price)]
"""What a call cost in USD; None where nobody knows."""

MOST_TOKENS = 20_000_000
"""Tokens of one call above which a count cannot be true: twice the longest context there is."""

Purpose = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")]
"""The name of the step that a call is for: an open set. It groups the ledger; not in the key."""


class Part(Value):
    """A typed piece of a message.

    `text` is the caller's own words. All other kinds are data: for a model they are delimited and
    never obeyed; the builtin tier reads them as they are.
    """

    kind: Literal[
        "text", "question", "query", "passage", "evidence", "finding", "error",
        "issue", "plan", "file", "report", "change", "field",
    ] = "text"  # fmt: skip
    text: Text
    id: str = ""
    """The mark by which a reply refers to this part, such as `P3`."""
    heading: Text = ""
    score: float = Field(default=0.0, exclude=True)
    """The search's relevance: read by the builtin tier, not shown to models, not in the key."""
    document: Text = ""
    """Where the text stands."""
    units: list[tuple[int, int]] = Field(default_factory=list)
    """Stretches of the text that are shown alone, each behind its mark: `P3.1`, `P3.2` and on."""


class Message(Value):
    """One turn."""

    role: Literal["user", "assistant"] = "user"
    parts: list[Part]
    blocks: Blocks = Field(default_factory=list)
    """An assistant turn's opaque provider blocks, sent back as they came."""


class Tool(Value):
    """A function the model may ask for."""

    name: str
    description: str
    schema_: Object = Field(
        validation_alias=AliasChoices("schema", "schema_"), serialization_alias="schema_"
    )
    """The tool's JSON schema; under this name it is in keys."""


class Thinking(Value):
    """How much a model may think before it answers."""

    mode: Literal["off", "on", "budget"] = "off"
    budget_tokens: int = Field(default=0, ge=0)


class Sampling(Value):
    """Sampling preferences; None leaves the model's own default."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None

    @property
    def is_greedy(self) -> bool:
        """Return whether nothing is left to chance: what a model without the field comes near."""
        return self.temperature == 0


class Request(Value):
    """Everything that decides a reply, and nothing else (apart from `purpose`)."""

    model: ModelRef = ModelRef()
    """Whom to ask; a step's request leaves it to the client that asks."""
    messages: list[Message]
    system: Text = ""
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: str = ""
    json_schema: Object | None = None
    """JSON schema that the reply's text must satisfy; None asks for free text."""
    max_output_tokens: int = Field(default=1024, gt=0)
    """Tokens of the reply itself; what thinking may take comes on top, in `limit_tokens`."""
    sampling: Sampling | None = None
    """None leaves sampling to the model."""
    thinking: Thinking | None = None
    """None leaves thinking to the model."""
    sample: int = Field(default=0, ge=0)
    """Number of this draw: n samples of one prompt are n requests."""
    cache_salt: str = Field(
        default="", validation_alias=AliasChoices("cache_salt", "salt"), serialization_alias="salt"
    )
    """Another salt, another key: what is recorded is asked again."""
    purpose: Purpose = Field(default="chat", exclude=True)
    priority: int = Field(default=LAST, ge=0, exclude=True)
    """Whose turn it is where an engine has more than it can run; lower is first, not in the key."""
    shared_parts: int = Field(default=0, ge=0, exclude=True)
    """Leading parts of the first message that other requests of the run begin with too: worth a
    provider's prefix cache. Decides a price and no answer, so it is not in the key."""

    @property
    def limit_tokens(self) -> int:
        """Return the most output tokens the call may take, thinking included."""
        match self.thinking:
            case Thinking(mode="budget", budget_tokens=budget_tokens):
                return self.max_output_tokens + budget_tokens
            case Thinking(mode="on"):
                return self.max_output_tokens + THINKING_ROOM_TOKENS
            case _:
                return self.max_output_tokens

    def key(self, *, model_fingerprint: str = "", wire_version: str = "1") -> str:
        """Return the request's SHA-256 in hexadecimal.

        Args:
            model_fingerprint: What the model's spelling stands for where that is more than the
                spelling (a hash of local weights, say).
            wire_version: Version of the translation that turns the request into bytes.
        """
        hashed = _head(model_fingerprint or str(self.model), wire_version).copy()
        hashed.update(self._canonical())
        return hashed.hexdigest()

    def _canonical(self) -> bytes:
        """Return canonical JSON: fields in declared order, free objects in their own."""
        return self.model_dump_json(
            exclude=_NOT_IN_KEY, exclude_defaults=True, by_alias=True
        ).encode()


@lru_cache(maxsize=64)
def _head(model_fingerprint: str, wire_version: str) -> hashlib._Hash:
    head = {"v": KEY_VERSION, "adapter": wire_version, "model": model_fingerprint}
    return hashlib.sha256(json.dumps(head, separators=(",", ":")).encode())


class Usage(Value):
    """Tokens of one call, in one meaning for every provider.

    `input_tokens` counts fresh input only: neither cache reads nor cache writes are in it.
    `output_tokens` includes reasoning. Usages add up.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def told(
        cls,
        all_input: object,
        output: object,
        *,
        cache_read: object = None,
        cache_write: object = None,
        reasoning: object = None,
    ) -> Usage | None:
        """Return a provider's own count; None where it cannot be true, for then it says nothing.

        Args:
            all_input: Tokens read, the cached ones included; none at all is no count.
            output: Tokens written, reasoning included; where that is more, it comes on top.
        """
        told = (all_input, output, cache_read or 0, cache_write or 0, reasoning or 0)
        counts = [n for n in told if type(n) is int and 0 <= n <= MOST_TOKENS]
        if len(counts) < len(told):
            return None
        read, written, cached, stored, thought = counts
        if not read or cached + stored > read:
            return None
        written += thought if thought > written else 0  # some count the answer alone
        return cls(
            input_tokens=read - cached - stored,
            cache_read_tokens=cached,
            cache_write_tokens=stored,
            output_tokens=written,
            reasoning_tokens=thought,
        )

    @property
    def all_input_tokens(self) -> int:
        """Return what the model read, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, field by field."""
        names = type(self).model_fields
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in names})


class ToolCall(Value):
    """A call that the model asks for; the arguments are JSON text as it came."""

    id: Text
    name: Text
    arguments: Text


class Reply(Value):
    """What an engine answered."""

    text: Text = ""
    reasoning: Text = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    stop: Literal["end", "length", "refusal", "tool", "context", "pause"] = "end"
    usage: Usage | None = None
    """None where the provider did not say: what it cost is then unknown."""
    usd: Price = None
    """What the provider itself says it charged; beats every price table."""
    model: Text = ""
    """The model name that the server itself reported."""
    fingerprint: Text = ""
    request_id: Text = ""
    blocks: Blocks = Field(default_factory=list)
    """Opaque provider blocks, to be sent back in a later turn as they are."""
    notes: list[Text] = Field(default_factory=list)
    """Preferences that the model has no way to follow, and what was done instead."""
    raw: Text = ""
    """The body that a server sent, as it came: the rest is read from it, now and at each replay."""


class Attempt(Value):
    """One try of a call at a paid engine, as the engine reports it."""

    number: int
    started_s: float
    """Unix time."""
    ended_s: float
    status: str
    """`ok`, or the error's class and status code; never its text."""


REFUSED = re.compile(
    r".* (3\d\d|4(?!08|99)\d\d|50[013]|529)|ErrorReplyError( \d+)?|PageReplyError|NotConnected"
)
"""How an attempt ends that is surely not billed: refused by the provider itself, or never there.
A gateway's 502 or 504 may come while it works, unless the body of a reply tells it."""


class Answered(Value):
    """The call has a usable reply."""

    kind: Literal["answered"] = "answered"
    reply: Reply


class Unusable(Value):
    """The call was paid and its reply cannot be used: recorded, replayed at no cost."""

    kind: Literal["unusable"] = "unusable"
    reason: Literal["refused", "truncated", "invalid", "context", "paused"]
    detail: Text
    reply: Reply


class Unanswered(Value):
    """No reply ever came: nothing is recorded, and a rerun asks again."""

    kind: Literal["unanswered"] = "unanswered"
    reason: Literal[
        "rate_limited", "down", "deadline", "rejected", "too_long", "over_budget", "cancelled"
    ]
    detail: str
    transient: bool
    asked: bool = True
    """Whether an attempt may have been made; what was never asked costs nothing for sure."""


Outcome: TypeAlias = Answered | Unusable | Unanswered


def user(parts: Sequence[Part]) -> Message:
    """Return a user turn made of `parts`."""
    return Message(role="user", parts=list(parts))
