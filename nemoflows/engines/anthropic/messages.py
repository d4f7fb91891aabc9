"""Requests in the Messages API's terms, and its messages as outcomes.

The API takes no sampling parameters: preferences are dropped, with a note. Schemas lose their
bounds on the way (the API enforces structure only), so that replies are checked by code as
everywhere.

Two calls of one prefix are enough for the API's cache to pay: writing costs 1.25 times plain input
and reading a tenth or less. Source: platform.claude.com, prompt caching.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from nemoflows.calls import (
    Answered,
    Message,
    Outcome,
    Reply,
    Request,
    Thinking,
    ToolCall,
    Unusable,
    Usage,
)
from nemoflows.calls.wire import estimate_tokens, render, schema_words, shared_text
from nemoflows.engines.http.body import fields, objects, unreadable, words
from nemoflows.engines.http.errors import no_reply, sanitised
from nemoflows.engines.openai.dialects import effort
from nemoflows.models import claude_abilities, claude_cache_minimum

MIN_BUDGET_TOKENS = 1024
"""Least thinking budget that the API takes. Source: anthropic 2.12, ThinkingConfigEnabledParam."""
ALWAYS_THINKS_TOKENS = 4096
"""Room on top of a reply for models whose thinking cannot be turned off; at low effort a guess."""


def limit_tokens(request: Request) -> int:
    """Return the most output tokens that a call is allowed, thinking included."""
    return request.limit_tokens + _thinking(request).room_tokens


def to_arguments(
    request: Request, refused: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[str]]:
    """Return the SDK's arguments and notes; what is not asked for is not sent.

    Args:
        refused: Fields that the server refused before; a schema is then told in words.
    """
    thinks = _thinking(request)
    arguments: dict[str, Any] = {
        "model": request.model.name,
        "max_tokens": limit_tokens(request),
        "messages": _turns(request),
    }
    system = request.system
    if request.json_schema is not None and "output_config" in refused:
        system = f"{system}\n\n{schema_words(request.json_schema)}".strip()
    if system:
        arguments["system"] = system
    if request.tool_choice:
        arguments["tool_choice"] = {"type": request.tool_choice}
    if request.tools:
        arguments["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema_}
            for tool in request.tools
        ]
    if thinks.field:
        arguments["thinking"] = thinks.field
    output = {"effort": thinks.effort} if thinks.effort else {}
    if output or request.json_schema is not None:
        arguments["output_config"] = output | _format(request)
    draws = request.sampling is not None and not request.sampling.is_greedy
    sampled = f"sampling: {request.model.name} takes none" if draws else ""
    left_out = sorted(refused & arguments.keys())
    for name in left_out:
        del arguments[name]
    told = [f"{name}: not sent, for the server refused it" for name in left_out]
    return arguments, [note for note in (sampled, thinks.note, *told) if note]


def _format(request: Request) -> dict[str, Any]:
    if request.json_schema is None:
        return {}
    import anthropic

    schema = anthropic.transform_schema(request.json_schema)
    return {"format": {"type": "json_schema", "schema": schema}}


class _Thinks(NamedTuple):
    """How a preference about thinking is told to the API."""

    field: dict[str, Any]
    effort: str = ""
    note: str = ""
    room_tokens: int = 0
    """Output tokens for thinking that the request itself does not count."""


def _thinking(request: Request) -> _Thinks:
    """Return what the API is told about a preference; models differ in what they let one decide."""
    abilities = claude_abilities(request.model.name)
    always = "" if abilities.thinking_off else f"thinking off: {request.model.name} always thinks"
    match request.thinking:
        case Thinking(mode="off") if always:
            return _Thinks({}, "low", always, ALWAYS_THINKS_TOKENS)
        case Thinking(mode="off"):
            return _Thinks({"type": abilities.thinking_off})
        case Thinking(mode="budget", budget_tokens=wanted) if abilities.budgets:
            most = max(MIN_BUDGET_TOKENS, wanted)
            raised = f"thinking budget: {most} tokens, the least that {request.model.name} takes"
            field = {"type": "enabled", "budget_tokens": most}
            return _Thinks(field, note=raised if most > wanted else "", room_tokens=most - wanted)
        case Thinking(mode="budget", budget_tokens=wanted):
            level = effort(wanted)
            note = f"thinking budget: an effort, {level}, for {wanted} tokens"
            return _Thinks({"type": "adaptive"}, level, note, MIN_BUDGET_TOKENS)
        case Thinking(mode="on"):
            return _Thinks({"type": "adaptive"})
        case _:
            return _Thinks({}, room_tokens=ALWAYS_THINKS_TOKENS if always else 0)


def is_cached(request: Request) -> bool:
    """Return whether the request's shared prefix is long enough for the model's cache."""
    n_tokens = estimate_tokens(len(shared_text(request)))
    return request.shared_parts > 0 and n_tokens >= claude_cache_minimum(request.model.name)


def _turns(request: Request) -> list[dict[str, Any]]:
    turns = [{"role": turn.role, "content": _content(turn)} for turn in request.messages]
    if is_cached(request):
        own = request.messages[0].parts[request.shared_parts :]
        turns[0]["content"] = [
            {
                "type": "text",
                "text": shared_text(request),
                "cache_control": {"type": "ephemeral"},
            },
            {"type": "text", "text": "\n\n".join(render(part) for part in own)},
        ]
    return turns


def _content(turn: Message) -> Any:
    return turn.blocks or "\n\n".join(render(part) for part in turn.parts)


def read_message(body: dict[str, Any], came: Reply) -> Outcome:
    """Return the outcome of a message that came, however it ended and whatever is odd in it.

    Raises:
        MalformedReplyError: It is no message, so that nothing was paid.
    """
    content, usage = body.get("content"), body.get("usage")
    if not isinstance(content, list | str) and (body.get("error") or not usage):
        raise no_reply(body)
    if not isinstance(content, list | str):
        return unreadable(came.model_copy(update={"usage": _usage(usage)}), "it has no content")
    reply = _reply(body, came)
    name = sanitised(reply.model or "the model")
    match body.get("stop_reason"):
        case "refusal":
            details = fields(body.get("stop_details"))
            why = words(details.get("explanation")) or words(details.get("category"))
            detail = sanitised(why or "No reason given.")
            return Unusable(reason="refused", detail=detail, reply=reply)
        case "max_tokens":
            detail = f"Cut off at {name}'s limit of output tokens."
            return Unusable(reason="truncated", detail=detail, reply=reply)
        case "model_context_window_exceeded":
            detail = f"The context of {name} ended before the reply did."
            return Unusable(reason="context", detail=detail, reply=reply)
        case "pause_turn":
            detail = f"{name} paused in the middle of its turn."
            return Unusable(reason="paused", detail=detail, reply=reply)
        case _:
            return Answered(reply=reply)


_STOPS = {
    "refusal": "refusal",
    "max_tokens": "length",
    "model_context_window_exceeded": "context",
    "tool_use": "tool",
    "pause_turn": "pause",
}


def _reply(body: dict[str, Any], came: Reply) -> Reply:
    """Return the reply; blocks are told apart by type, for thinking may come first."""
    content = body["content"]
    plain = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = [
        {name: told for name, told in block.items() if told is not None} for block in objects(plain)
    ]
    texts = [words(block.get("text")) for block in blocks if block.get("type") == "text"]
    thoughts = [words(block.get("thinking")) for block in blocks if block.get("type") == "thinking"]
    calls = [
        ToolCall(id=words(block.get("id")), name=name, arguments=json.dumps(block.get("input")))
        for block in blocks
        if block.get("type") == "tool_use" and (name := words(block.get("name")))
    ]
    return Reply(
        text="".join(texts),
        reasoning="\n".join(filter(None, thoughts)),
        tool_calls=calls,
        stop=_STOPS.get(words(body.get("stop_reason")), "end"),  # type: ignore[arg-type]
        usage=_usage(body.get("usage")),
        model=words(body.get("model")),
        request_id=came.request_id,
        blocks=blocks if len(texts) < len(blocks) else [],
        notes=came.notes,
        raw=came.raw,
    )


def _usage(told: object) -> Usage | None:
    """Return the usage in our one meaning: Anthropic's input excludes the cached tokens."""
    usage = fields(told)
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    parts: list[Any] = [usage.get("input_tokens"), read or 0, written or 0]
    return Usage.told(
        sum(parts) if {type(part) for part in parts} == {int} else None,
        usage.get("output_tokens"),
        cache_read=read,
        cache_write=written,
        reasoning=fields(usage.get("output_tokens_details")).get("thinking_tokens"),
    )
