"""What models let a caller decide about thinking and caching, one row each."""

from __future__ import annotations

from typing import Literal

from nemoflows.models.endpoints import CLAUDE, Dialect
from nemoflows.types import Value


class ClaudeAbilities(Value):
    """What a Claude model lets a caller decide about thinking."""

    thinking_off: Literal["", "disabled", "between_tools"]
    """How thinking is turned off; empty where it cannot be."""
    budgets: bool
    """Whether a thinking budget in tokens is taken; others decide for themselves."""


_CLAUDE = (
    ("claude-haiku-4-5", ClaudeAbilities(thinking_off="disabled", budgets=True)),
    ("claude-sonnet-4-5", ClaudeAbilities(thinking_off="disabled", budgets=True)),
    ("claude-sonnet-5-5", ClaudeAbilities(thinking_off="between_tools", budgets=False)),
    ("claude-haiku-5-5", ClaudeAbilities(thinking_off="disabled", budgets=False)),
    ("claude-opus-5-5", ClaudeAbilities(thinking_off="", budgets=False)),
    ("claude-fable-5-", ClaudeAbilities(thinking_off="", budgets=False)),
    ("claude-mythos-5-", ClaudeAbilities(thinking_off="", budgets=False)),
    ("claude-", ClaudeAbilities(thinking_off="disabled", budgets=False)),
)
"""By the beginning of the name, the first that fits.

Source: the providers' pages and anthropic 2.12's model list, read in November 2026; no live
server was asked.
"""

CACHE_MINIMUM_TOKENS = (
    ("claude-haiku-4-5", 4096),
    ("claude-sonnet-4-", 1024),
    ("claude-opus-4-", 1024),
    ("claude-sonnet-5-5", 512),
    ("claude-sonnet-5", 1024),
    ("claude-", 512),
)
"""Shortest prefix that a Claude model's cache takes, by the beginning of the name.

Source: litellm 1.106's model table and pydantic-ai 2.68's profiles, read in November 2026.
"""


def claude_cache_minimum(name: str) -> int:
    """Return the shortest prefix, in tokens, that a Claude model's cache takes."""
    longest = max(minimum for _, minimum in CACHE_MINIMUM_TOKENS)
    return next(
        (least for prefix, least in CACHE_MINIMUM_TOKENS if name.startswith(prefix)), longest
    )


class OpenAIAbilities(Value):
    """What a model of the OpenAI API lets a caller decide about thinking."""

    reasons: bool
    """Whether it takes `reasoning_effort`; other models refuse the field."""
    off: str = ""
    """The effort that comes nearest to no thinking."""


_OPENAI = (
    ("gpt-5-", OpenAIAbilities(reasons=True, off="minimal")),
    ("gpt-5.", OpenAIAbilities(reasons=True, off="none")),
    ("gpt-5", OpenAIAbilities(reasons=True, off="minimal")),
    ("gpt-6.2", OpenAIAbilities(reasons=True, off="low")),
    ("gpt-6", OpenAIAbilities(reasons=True, off="none")),
    ("o1", OpenAIAbilities(reasons=True, off="low")),
    ("o3", OpenAIAbilities(reasons=True, off="low")),
    ("o4", OpenAIAbilities(reasons=True, off="low")),
)
"""By the beginning of the name, the first that fits.

Source: openai 3.54's ReasoningEffort and ChatModel, and the provider's model pages, read in
November 2026; no live server was asked. Of gpt-6.2: litellm's discussion 52347 (400 to `none` and
`minimal`).
"""


def openai_abilities(name: str) -> OpenAIAbilities:
    """Return the abilities of a model of the OpenAI API; of an unknown one, none."""
    unknown = OpenAIAbilities(reasons=False)
    return next((found for prefix, found in _OPENAI if name.startswith(prefix)), unknown)


def cannot_stop_thinking(dialect: Dialect, name: str) -> bool:
    """Return whether a model is known to think whatever it is told."""
    if dialect in CLAUDE:
        return not claude_abilities(name).thinking_off
    abilities = openai_abilities(name)
    return dialect == "openai" and abilities.reasons and abilities.off != "none"


def claude_abilities(name: str) -> ClaudeAbilities:
    """Return the abilities of a Claude model, or what other servers of the dialect take.

    Source of the latter: vLLM 0.32's /v1/messages (run) and api-docs.deepseek.com.
    """
    unknown = ClaudeAbilities(thinking_off="disabled", budgets=True)
    return next((found for prefix, found in _CLAUDE if name.startswith(prefix)), unknown)
