"""Streams of servers that were not asked for one: their events joined into the body they spell."""

from __future__ import annotations

import json
from typing import Any

from nemoflows.engines.http.body import fields, objects, words
from nemoflows.engines.http.errors import (
    ErrorReplyError,
    ForeignReplyError,
    MalformedReplyError,
)

_KINDS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def events(raw: str) -> list[dict[str, Any]]:
    """Return the objects of a body that is a stream of events, or of lines; empty where it is not.

    Raises:
        ErrorReplyError: One of them is an error.
        ForeignReplyError: They are of another API.
    """
    lines = (line.removeprefix("data:").strip() for line in raw.replace("\r", "\n").split("\n"))
    found = []
    for line in lines:
        if line.startswith("{"):
            try:
                found.append(json.loads(line, strict=False))
            except (ValueError, RecursionError):
                return []
    for event in found:
        if event.get("error") or "error" in (event.get("type"), event.get("object")):
            raise ErrorReplyError(event)
    if found and not any({"choices", "type"} & event.keys() for event in found):
        raise ForeignReplyError(found[0])
    return found


def completion(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the chat completion that its chunks spell.

    Raises:
        MalformedReplyError: They break off.
    """
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: dict[int, dict[str, Any]] = {}
    finish = None
    whole: dict[str, Any] = {}
    for chunk in chunks:
        whole |= {name: told for name, told in chunk.items() if told}
        for choice in objects(chunk.get("choices"))[:1]:
            delta = fields(choice.get("delta") or choice.get("message"))
            finish = choice.get("finish_reason") or finish
            message["content"] += words(delta.get("content"))
            told = delta.get("reasoning_content") or delta.get("reasoning")
            message["reasoning_content"] += words(told)
            for call in objects(delta.get("tool_calls")):
                _add_call(calls, call)
    if finish is None:
        raise MalformedReplyError("status 200 with a stream that broke off")
    message["tool_calls"] = [call for _, call in sorted(calls.items())]
    return whole | {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _add_call(calls: dict[int, dict[str, Any]], told: dict[str, Any]) -> None:
    index = told.get("index")
    empty = {"id": "", "function": {"name": "", "arguments": ""}}
    call = calls.setdefault(index if isinstance(index, int) else len(calls), empty)
    call["id"] = call["id"] or words(told.get("id"))
    for name in ("name", "arguments"):
        call["function"][name] += words(fields(told.get("function")).get(name))


def message(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the Anthropic message that its events spell.

    Raises:
        MalformedReplyError: They break off.
    """
    whole: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for part in parts:
        told, delta = part.get("index"), fields(part.get("delta"))
        index = told if isinstance(told, int) else -1
        if part.get("type") == "message_start":
            whole = fields(part.get("message"))
        elif part.get("type") == "message_delta":
            usage = fields(whole.get("usage")) | fields(part.get("usage"))
            whole = whole | delta | {"usage": usage}
        elif part.get("type") == "content_block_start" and index >= 0:
            blocks[index] = dict(fields(part.get("content_block")))
        elif index in blocks:
            name = _KINDS.get(words(delta.get("type")), "")
            if name:
                blocks[index][name] = words(blocks[index].get(name)) + words(delta.get(name))
            inputs[index] = inputs.get(index, "") + words(delta.get("partial_json"))
    if not whole.get("stop_reason"):
        raise MalformedReplyError("status 200 with a stream that broke off")
    for index, text in inputs.items():
        if text:
            blocks[index]["input"] = _read(text)
    return whole | {"content": [block for _, block in sorted(blocks.items())]}


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}
