"""Requests in a dialect's terms of chat completions, and completions as outcomes.

What a dialect calls things, and what it would pass over in silence, is in `dialects`.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from nemoflows.engines.http.body import as_json, fields, objects, unreadable, words
from nemoflows.engines.http.errors import ErrorReplyError, no_reply, sanitised
from nemoflows.engines.openai.dialects import RequestFields, Rules, nearest_effort, sampling


def to_body(request: Request, rules: Rules) -> tuple[dict[str, Any], list[str]]:
    """Return a request's body and notes; what is not asked for is not sent."""
    sampled, thinks = sampling(request, rules), RequestFields({})
    if request.thinking is not None:
        thinks = rules.thinking(request.thinking, request.model.name)
    limit = min(request.limit_tokens, rules.most_tokens or request.limit_tokens)
    body: dict[str, Any] = {
        "model": request.model.name,
        "messages": _messages(request, rules),
        rules.limit: limit,
        **sampled.fields,
        **thinks.fields,
    }
    if request.tool_choice:
        body["tool_choice"] = request.tool_choice
    if request.json_schema is not None and rules.schema != "words":
        told = rules.schema == "json_schema"
        body["response_format"] = (
            response_format(request.json_schema) if told else {"type": "json_object"}
        )
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    cut = f"output limit: {limit} tokens, the most that the server takes"
    notes = [sampled.note, thinks.note, *_without_refused(body, rules)]
    notes += [cut] if limit < request.limit_tokens else []
    return body, [note for note in notes if note]


def _without_refused(body: dict[str, Any], rules: Rules) -> Iterator[str]:
    """Take out what the server refused before, and tell what that was."""
    if wanted := body.get("reasoning_effort"):
        body["reasoning_effort"] = nearest = nearest_effort(wanted, rules.refused)
        if nearest != wanted:
            yield f"reasoning_effort: {nearest or 'not sent'}, for the server refused {wanted}"
        if not nearest:
            del body["reasoning_effort"]
    for name in sorted(rules.refused & body.keys()):
        del body[name]
        yield f"{name}: not sent, for the server refused it"


def _messages(request: Request, rules: Rules) -> list[dict[str, Any]]:
    system = request.system
    if request.json_schema is not None and rules.schema != "json_schema":
        system = f"{system}\n\n{schema_words(request.json_schema)}".strip()
    turns = [{"role": t.role, "content": _content(t)} for t in request.messages]
    if system and "system" in rules.refused:
        return [turns[0] | {"content": f"{system}\n\n{turns[0]['content']}"}, *turns[1:]]
    return [{"role": "system", "content": system}, *turns] if system else turns


def sent_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a server may refuse of a request: fields by name, and `system` for its turn."""
    first = body["messages"][0]
    told = {"system": ""} if first["role"] == "system" else {}
    ours = {"model", "messages", "tools", "tool_choice"}
    return told | {name: value for name, value in body.items() if name not in ours}


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the field that holds a reply to a schema."""
    wrapped = {"name": "reply", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": wrapped}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.schema_}
    return {"type": "function", "function": described}


def _content(turn: Message) -> str:
    return "\n\n".join(render(part) for part in turn.parts)


def read_completion(body: dict[str, Any], came: Reply) -> Outcome:
    """Return the outcome of a completion that came, however it ended and whatever is odd in it.

    Raises:
        MalformedReplyError: It is no completion, so that nothing was paid.
    """
    choices, usage = body.get("choices"), body.get("usage")
    if not choices and (body.get("error") or not usage):
        raise no_reply(body)
    choice = next(iter(objects(choices)), {})
    if "message" not in choice and words(choice.get("text")):  # of the API before chat
        choice = {**choice, "message": {"content": choice["text"]}}
    failed = choice.get("error") or choice.get("finish_reason") == "error"
    if failed and not words(fields(choice.get("message")).get("content")):
        raise ErrorReplyError({"error": choice.get("error") or "the provider failed"})
    if not isinstance(choice.get("message"), dict):
        return unreadable(came.model_copy(update={"usage": _usage(usage)}), "it has no message")
    reply = _reply(body, choice, came)
    if reply.stop == "refusal":
        detail = words(choice["message"].get("refusal")) or "The provider's filter refused."
        return Unusable(reason="refused", detail=sanitised(detail), reply=reply)
    if reply.stop == "length":
        name = sanitised(reply.model or "the model")
        detail = f"Cut off at {name}'s limit of output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    return Answered(reply=reply)


_STOPS = {"length": "length", "content_filter": "refusal", "tool_calls": "tool"}


def _reply(body: dict[str, Any], choice: dict[str, Any], came: Reply) -> Reply:
    message = choice["message"]
    stop = (
        "refusal"
        if message.get("refusal")
        else _STOPS.get(words(choice.get("finish_reason")), "end")
    )
    return Reply(
        text=words(message.get("content")),
        reasoning=words(message.get("reasoning")) or words(message.get("reasoning_content")),
        tool_calls=[call for each in objects(message.get("tool_calls")) for call in _called(each)],
        stop="refusal" if message.get("refusal") else stop,  # type: ignore[arg-type]  # the table's values are the literals
        usage=_usage(body.get("usage")),
        model=words(body.get("model")),
        fingerprint=words(body.get("system_fingerprint")),
        request_id=came.request_id,
        notes=came.notes,
        raw=came.raw,
    )


def _called(call: dict[str, Any]) -> list[ToolCall]:
    """Return a call of a function; calls of other kinds were not offered and are passed over."""
    function = fields(call.get("function"))
    name, arguments = words(function.get("name")), as_json(function.get("arguments"))
    return [ToolCall(id=words(call.get("id")), name=name, arguments=arguments)] if name else []


def _usage(told: object) -> Usage | None:
    """Return the usage in our one meaning: OpenAI's prompt tokens include the cached ones."""
    usage = fields(told)
    prompt = fields(usage.get("prompt_tokens_details"))
    return Usage.told(
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        cache_read=prompt.get("cached_tokens"),
        cache_write=prompt.get("cache_write_tokens"),
        reasoning=fields(usage.get("completion_tokens_details")).get("reasoning_tokens"),
    )
