"""Requests in vLLM's terms, and its outputs in ours.

A tokeniser reads `<|im_end|>` in a document as the token that ends a turn, so a document could
open a turn of the system's. Such strings are broken by an invisible character in every text that
a request brings, before the template adds its own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from nemoflows.calls import Answered, Outcome, Reply, Request, Thinking, Unusable, Usage
from nemoflows.calls.wire import render
from nemoflows.engines.vllm.running import Running

JOINER = "\u2060"
"""Breaks a special token's string: a word joiner, which is not seen and is no space."""
TEMPLATES_OWN = ("<think>", "</think>")
"""Strings that templates look for in text, whether they are tokens or not."""


def prompt_ids(running: Running, request: Request) -> list[int]:
    """Return a request as the model's own template spells it, in tokens."""
    tokeniser = running.tokeniser
    ids: list[int] = tokeniser.apply_chat_template(
        _defused(tokeniser, _turns(request)),
        tools=_defused(tokeniser, [tool.model_dump(by_alias=True) for tool in request.tools])
        or None,
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=thinks(request),
    )
    return ids


def thinks(request: Request) -> bool:
    """Return whether a request lets the model think."""
    return (request.thinking or Thinking()).mode != "off"


def _turns(request: Request) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": request.system}] if request.system else []
    for turn in request.messages:
        text = "\n\n".join(render(part) for part in turn.parts)
        turns.append({"role": turn.role, "content": text})
    return turns


def _defused(tokeniser: Any, value: Any) -> Any:
    """Return `value` with the strings of special tokens broken, wherever it holds text."""
    if isinstance(value, str):
        special = _special(tokeniser)
        while special.search(value):  # again, for they may overlap
            value = special.sub(lambda found: f"{found[0][0]}{JOINER}{found[0][1:]}", value)
        return value
    if isinstance(value, dict):
        return {_defused(tokeniser, k): _defused(tokeniser, v) for k, v in value.items()}
    if isinstance(value, list):
        return [_defused(tokeniser, each) for each in value]
    return value


@lru_cache(maxsize=4)
def _special(tokeniser: Any) -> re.Pattern[str]:
    """Return what finds the strings that a tokeniser reads as tokens of their own."""
    added = (str(token) for token in tokeniser.added_tokens_decoder.values())
    known = {*TEMPLATES_OWN, *tokeniser.all_special_tokens, *added}
    words = sorted((w for w in known if len(w.strip()) > 1), key=lambda w: (-len(w), w))
    return re.compile("|".join(map(re.escape, words)))


def sampling(running: Running, request: Request) -> Any:
    """Return vLLM's parameters of a request: one final output, all of it within bounds."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    wanted: dict[str, Any] = {
        "max_tokens": request.limit_tokens,
        "output_kind": RequestOutputKind.FINAL_ONLY,
        "skip_clone": True,
    }
    if request.sampling is not None:
        wanted |= request.sampling.model_dump(exclude_none=True)
    if request.json_schema is not None:
        wanted["structured_outputs"] = StructuredOutputsParams(json=request.json_schema)
    thinking = request.thinking or Thinking()
    if thinking.mode == "budget" and running.end_of_thinking is not None:
        wanted["thinking_token_budget"] = thinking.budget_tokens
    return SamplingParams(**wanted)


def outcome(running: Running, request: Request, output: Any) -> Outcome:
    """Return what vLLM's final output means."""
    completion = output.outputs[0]
    tokens, end = list(completion.token_ids), running.end_of_thinking
    at = tokens.index(end) if thinks(request) and end in tokens else -1
    endless = thinks(request) and end is not None and at < 0
    at = len(tokens) if endless else at
    reply = _reply(running, request, output, at)
    if reply.stop == "length" or completion.finish_reason == "abort":
        detail = f"Ended by {completion.finish_reason} after {len(tokens)} output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    if endless:
        detail = f"The model stopped after {len(tokens)} tokens of thinking, without an answer."
        return Unusable(reason="invalid", detail=detail, reply=reply)
    return Answered(reply=reply)


def _reply(running: Running, request: Request, output: Any, at: int) -> Reply:
    """Return the reply; `at` is the place of the token that ends thinking, -1 without one."""
    completion = output.outputs[0]
    tokens, cached = completion.token_ids, output.num_cached_tokens or 0
    thought, text = _split(running, completion, at)
    return Reply(
        text=text.strip(),
        reasoning=thought.strip(),
        stop="length" if completion.finish_reason == "length" else "end",
        usage=Usage(
            input_tokens=len(output.prompt_token_ids) - cached,
            cache_read_tokens=cached,
            output_tokens=len(tokens),
            reasoning_tokens=max(at, 0),
        ),
        model=request.model.name,
    )


def _split(running: Running, completion: Any, at: int) -> tuple[str, str]:
    """Return thoughts and text; vLLM's own text serves where it need not be split."""
    tokens = list(completion.token_ids)
    if at < 0:
        return "", completion.text
    if at == len(tokens):
        return completion.text, ""
    decode = running.tokeniser.decode
    thought, text = tokens[:at], tokens[at + 1 :]
    return decode(thought, skip_special_tokens=True), decode(text, skip_special_tokens=True)
