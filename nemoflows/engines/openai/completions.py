"""Requests in a dialect's terms of chat completions, and completions as outcomes.

What a dialect calls things, and what it would pass over in silence, is in `dialects`.
"""

from __future__ import annotations

import json
from typing import Any

from nemoflows.calls import (
    Answered,
    Message,
    Outcome,
    Reply,
    Request,
    Tool,
    ToolCall,
    Unusable,
    Usage,
)
from nemoflows.calls.wire import render, schema_words
from nemoflows.engines.http.errors import sanitised
from nemoflows.engines.openai.dialects import RequestFields, Rules, sampling


def to_arguments(request: Request, rules: Rules) -> tuple[dict[str, Any], list[str]]:
    """Return the SDK's arguments and notes; what is not asked for is not sent."""
    sampled, thinks = sampling(request, rules), RequestFields({})
    if request.thinking is not None:
        thinks = rules.thinking(request.thinking, request.model.name)
    arguments: dict[str, Any] = {
        "model": request.model.name,
        "messages": _messages(request, rules),
        rules.limit: request.limit_tokens,
        **sampled.fields,
    }
    if request.tool_choice:
        arguments["tool_choice"] = request.tool_choice
    # As extra fields, for the SDK walks through every level of a known one: half a call's CPU.
    more = dict(thinks.fields)
    if request.json_schema is not None:
        told = rules.schema == "json_schema"
        more["response_format"] = (
            response_format(request.json_schema) if told else {"type": "json_object"}
        )
    if request.tools:
        more["tools"] = [_tool(tool) for tool in request.tools]
    if more:
        arguments["extra_body"] = more
    return arguments, [note for note in (sampled.note, thinks.note) if note]


def _messages(request: Request, rules: Rules) -> list[dict[str, Any]]:
    system = request.system
    if request.json_schema is not None and rules.schema == "json_object":
        system = f"{system}\n\n{schema_words(request.json_schema)}".strip()
    first = [{"role": "system", "content": system}] if system else []
    return [*first, *({"role": t.role, "content": _content(t)} for t in request.messages)]


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the field that holds a reply to a schema."""
    wrapped = {"name": "reply", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": wrapped}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.schema_}
    return {"type": "function", "function": described}


def _content(turn: Message) -> str:
    return "\n\n".join(render(part) for part in turn.parts)


def read_completion(completion: Any, notes: list[str]) -> Outcome:
    """Return the outcome of a completion that came, however it ended."""
    choice = completion.choices[0]
    reply = _reply(completion, choice, notes)
    if reply.stop == "refusal":
        detail = choice.message.refusal or "The provider's filter refused."
        return Unusable(reason="refused", detail=sanitised(detail), reply=reply)
    if reply.stop == "length":
        name = sanitised(completion.model or "the model")
        detail = f"Cut off at {name}'s limit of output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    return Answered(reply=reply)


_STOPS = {"length": "length", "content_filter": "refusal", "tool_calls": "tool"}


def _reply(completion: Any, choice: Any, notes: list[str]) -> Reply:
    message = choice.message
    extra = message.model_extra or {}
    stop = "refusal" if message.refusal else _STOPS.get(choice.finish_reason or "", "end")
    calls = [
        ToolCall(
            id=call.id or "", name=call.function.name, arguments=_as_json(call.function.arguments)
        )
        for call in message.tool_calls or []
    ]
    return Reply(
        text=_words(message.content),
        reasoning=_words(extra.get("reasoning")) or _words(extra.get("reasoning_content")),
        tool_calls=calls,
        stop=stop,  # type: ignore[arg-type]  # the table's values are the literals
        usage=_usage(completion.usage),
        model=completion.model or "",
        fingerprint=completion.system_fingerprint or "",
        request_id=getattr(completion, "_request_id", None) or "",
        notes=notes,
    )


def _words(told: object) -> str:
    """Return the text of a field that is text, a part with text, or a list of these.

    What is none of them is passed over: the reply is paid for, and checked afterwards.
    """
    if isinstance(told, list):
        return "".join(map(_words, told))
    if isinstance(told, dict):
        return next((_words(told[key]) for key in ("text", "content") if told.get(key)), "")
    return told if isinstance(told, str) else ""


def _as_json(arguments: object) -> str:
    """Return a tool call's arguments as JSON; some servers have read it already."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {})


def _usage(usage: Any) -> Usage | None:
    """Return the usage in our one meaning: OpenAI's prompt tokens include the cached ones."""
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    prompt, output = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = getattr(prompt, "cached_tokens", None) or 0
    written = getattr(prompt, "cache_write_tokens", None) or 0
    return Usage(
        input_tokens=max(0, (usage.prompt_tokens or 0) - cached - written),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=usage.completion_tokens or 0,
        reasoning_tokens=getattr(output, "reasoning_tokens", None) or 0,
    )
