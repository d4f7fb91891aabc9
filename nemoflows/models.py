"""Facts about endpoints and models, one row each; later issues add geometry and abilities."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from nemoflows.types import Value


def secret_in(url: str) -> bool:
    """Return whether an address carries what could be a secret: user info or a query."""
    parts = urlsplit(url)
    return bool(parts.username or parts.password or parts.query)


Dialect = Literal["embedded", "scripted", "dense", "openai", "anthropic", "vllm"]


class Endpoint(Value):
    """A named place where models are asked, and the dialect it speaks."""

    dialect: Dialect
    base_url: str = ""
    """Address; for `scripted` the script's path. Empty takes the SDK's own default."""
    key_env: str = ""
    """Environment variable with the key; empty where none is needed."""
    price_key: str = ""
    """Provider id in the price table; empty leaves calls unpriced."""
    usd_per_mtok: tuple[float, float] | None = Field(default=None)
    """Own price in USD per million input and output tokens; beats the table."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        if secret_in(value):
            raise ValueError("an address must hold no user, password or query: use key_env")
        return value


BUILT_IN = {
    "embedded": Endpoint(dialect="embedded"),
    "scripted": Endpoint(dialect="scripted"),
    "dense": Endpoint(dialect="dense"),
    "vllm": Endpoint(dialect="vllm"),
    "openai": Endpoint(dialect="openai", key_env="OPENAI_API_KEY", price_key="openai"),
    "nim": Endpoint(
        dialect="openai",
        base_url="https://integrate.api.nvidia.com/v1",
        key_env="NVIDIA_API_KEY",
    ),
    "deepseek": Endpoint(
        dialect="openai",
        base_url="https://api.deepseek.com",
        key_env="DEEPSEEK_API_KEY",
        price_key="deepseek",
    ),
    "sglang": Endpoint(dialect="openai", base_url="http://127.0.0.1:30000/v1"),
    "anthropic": Endpoint(dialect="anthropic", key_env="ANTHROPIC_API_KEY", price_key="anthropic"),
}
"""Endpoints that need no declaration; the SDKs' own variables are honoured for them."""

BASE_URL_ENV = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
"""The SDKs' own variables for the address, honoured for the built-in endpoints alone."""

IN_PROCESS: frozenset[Dialect] = frozenset({"vllm"})
"""Dialects whose model runs inside the task, on the task's GPU."""


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


def claude_abilities(name: str) -> ClaudeAbilities:
    """Return the abilities of a Claude model; of an unknown one, that nothing can be decided."""
    unknown = ClaudeAbilities(thinking_off="", budgets=False)
    return next((found for prefix, found in _CLAUDE if name.startswith(prefix)), unknown)
