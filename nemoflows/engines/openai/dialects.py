"""What the dialects of chat completions differ in: names of fields, thinking, schemas.

Servers pass over fields they do not know in silence, so that a wrong name means an unbounded or
unconstrained reply. A field is sent only where the dialect is known to obey it; a preference that
a dialect has no field for is dropped with a note in the reply.

| dialect | output limit | schema | thinking off, on | thinking budget |
|---|---|---|---|---|
| openai | max_completion_tokens | json_schema | reasoning_effort, if the model has it | effort |
| compatible | max_tokens | json_schema | dropped | dropped |
| nim | max_tokens | json_schema | chat_template_kwargs | reasoning_budget |
| sglang | max_tokens | json_schema | chat_template_kwargs | on, without a limit |
| deepseek | max_tokens | json_object, the schema in words | thinking | effort |
| vllm-server | max_completion_tokens | json_schema | chat_template_kwargs | thinking_token_budget |

Source: openai 3.54 and vLLM 0.32 (their source; the latter also run); docs.ollama.com on OpenAI
compatibility (`max_tokens` alone), docs.sglang.io on thinking budgets (kept only by servers that
were started for it), api-docs.deepseek.com on thinking mode and JSON output, docs.api.nvidia.com
on Nemotron 3 (`reasoning_budget`), read in November 2026. NIM before version 2 took schemas as
`nvext.guided_json` and is not covered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from nemoflows.calls import Request, Thinking
from nemoflows.models import Dialect, openai_abilities

EFFORTS = ((1024, "low"), (8192, "medium"))
"""Thinking budget in tokens up to which an effort stands for it; above, `high`."""


EFFORT_NAMES = ("none", "minimal", "low", "medium", "high")
"""Efforts of the OpenAI API, rising. Source: openai 3.54, ReasoningEffort."""
LIMITS: tuple[Literal["max_completion_tokens", "max_tokens"], ...] = (
    "max_completion_tokens", "max_tokens",
)  # fmt: skip
"""Names of the field for the most output tokens."""


class RequestFields(NamedTuple):
    """Fields that carry out a preference, and what could not be carried out."""

    fields: dict[str, Any]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What one dialect takes."""

    limit: Literal["max_tokens", "max_completion_tokens"]
    """Name of the field for the most output tokens."""
    thinking: Callable[[Thinking, str], RequestFields]
    """From a preference and the model's name to fields beside the standard ones."""
    schema: Literal["json_schema", "json_object", "words"] = "json_schema"
    """`json_object` promises JSON of some shape, `words` nothing: the schema is told in words."""
    seed: bool = True
    """Whether `seed` is obeyed."""
    refuses_bad_schemas: bool = False
    """Whether a schema that is not valid is refused at no cost, so that asking shows it is read."""
    thinkers_refuse_sampling: bool = False
    """Whether models that think refuse sampling fields."""
    caches_prefixes: bool = False
    """Whether the provider caches a prefix that several requests share and charges less for it."""
    refused: frozenset[str] = frozenset()
    """What a server refused of one model's requests: fields by name, and `effort none`."""
    most_tokens: int | None = None
    """Most output tokens that the server lets one ask for; None where it did not say."""


def sampling(request: Request, rules: Rules) -> RequestFields:
    """Return the sampling fields that the model takes."""
    if request.sampling is None:
        return RequestFields({})
    fields = request.sampling.model_dump(exclude_none=True)
    if rules.thinkers_refuse_sampling and openai_abilities(request.model.name).reasons:
        told = "" if request.sampling.is_greedy else f"sampling: {request.model.name} takes none"
        return RequestFields({}, told)
    if not rules.seed and fields.pop("seed", None) is not None:
        return RequestFields(fields, "seed: the dialect has none")
    return RequestFields(fields)


def without(rules: Rules, field: str, value: object, most_tokens: int | None) -> Rules | None:
    """Return the rules of a model whose server refuses a field; None where nothing is left to try.

    Args:
        value: What was sent in the field.
        most_tokens: The most output tokens that the refusal allows, where it is about these.
    """
    if field == "response_format" and rules.schema != "words":
        return replace(rules, schema="json_object" if rules.schema == "json_schema" else "words")
    refused = rules.refused | {f"effort {value}" if field == "reasoning_effort" else field}
    if field in LIMITS and most_tokens is not None:
        return replace(rules, most_tokens=most_tokens)
    if field in LIMITS:
        left = [name for name in LIMITS if name not in refused]
        return replace(rules, refused=refused, limit=left[0], most_tokens=None) if left else None
    return replace(rules, refused=refused) if refused != rules.refused else None


def nearest_effort(wanted: str, refused: frozenset[str]) -> str:
    """Return the next effort from `wanted` on that was not refused; empty where all were."""
    left = EFFORT_NAMES[EFFORT_NAMES.index(wanted) :] if wanted in EFFORT_NAMES else (wanted,)
    return next((name for name in left if f"effort {name}" not in refused), "")


def effort(budget_tokens: int) -> str:
    """Return the effort that stands for a thinking budget."""
    return next((name for most, name in EFFORTS if budget_tokens <= most), "high")


def _by_effort(thinking: Thinking, name: str) -> RequestFields:
    abilities = openai_abilities(name)
    if not abilities.reasons:
        return RequestFields({}, "" if thinking.mode == "off" else f"thinking: {name} has none")
    if thinking.mode == "off":
        note = "" if abilities.off == "none" else f"thinking off: {name} thinks {abilities.off}"
        return RequestFields({"reasoning_effort": abilities.off}, note)
    if thinking.mode == "on":
        return RequestFields({})
    level = effort(thinking.budget_tokens)
    note = f"thinking budget: an effort, {level}, for {thinking.budget_tokens} tokens"
    return RequestFields({"reasoning_effort": level}, note)


def _none(thinking: Thinking, name: str) -> RequestFields:
    return RequestFields({}, f"thinking {thinking.mode}: no field that {name} is known to obey")


def _template(thinking: Thinking) -> dict[str, Any]:
    return {"chat_template_kwargs": {"enable_thinking": thinking.mode != "off"}}


def _nim(thinking: Thinking, name: str) -> RequestFields:
    del name
    budget = {"reasoning_budget": thinking.budget_tokens} if thinking.mode == "budget" else {}
    return RequestFields(_template(thinking) | budget)


def _sglang(thinking: Thinking, name: str) -> RequestFields:
    del name
    unkept = "thinking budget: kept only by servers started for it, so thinking is on without one"
    return RequestFields(_template(thinking), unkept if thinking.mode == "budget" else "")


def _deepseek(thinking: Thinking, name: str) -> RequestFields:
    del name
    if thinking.mode == "off":
        return RequestFields({"thinking": {"type": "disabled"}})
    on: dict[str, Any] = {"thinking": {"type": "enabled"}}
    if thinking.mode == "on":
        return RequestFields(on)
    level = effort(thinking.budget_tokens)
    note = f"thinking budget: an effort, {level}, for {thinking.budget_tokens} tokens"
    return RequestFields(on | {"reasoning_effort": level}, note)


def _vllm_server(thinking: Thinking, name: str) -> RequestFields:
    del name
    budget = {"thinking_token_budget": thinking.budget_tokens} if thinking.mode == "budget" else {}
    return RequestFields(_template(thinking) | budget)


RULES: dict[Dialect, Rules] = {
    "openai": Rules(
        "max_completion_tokens", _by_effort, thinkers_refuse_sampling=True, caches_prefixes=True
    ),
    "compatible": Rules("max_tokens", _none),
    "nim": Rules("max_tokens", _nim),
    "sglang": Rules("max_tokens", _sglang),
    "deepseek": Rules(
        "max_tokens", _deepseek, schema="json_object", seed=False, caches_prefixes=True
    ),
    "vllm-server": Rules("max_completion_tokens", _vllm_server, refuses_bad_schemas=True),
}
