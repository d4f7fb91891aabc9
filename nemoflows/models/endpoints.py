"""Facts about endpoints, and about what models behind them let a caller decide, one row each."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from nemoflows.types import BUILTIN, Value


def secret_in(url: str) -> bool:
    """Return whether an address carries what could be a secret: user info or a query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address at all, and the error would quote it
        return True
    return bool(parts.username or parts.password or parts.query)


Dialect = Literal[
    "builtin",
    "fake",
    "dense",
    "openai",
    "compatible",
    "nim",
    "sglang",
    "deepseek",
    "vllm-server",
    "anthropic",
    "anthropic-batch",
    "vllm",
]
"""How an endpoint is spoken to; `compatible` is anything else that takes chat completions."""

CHAT_COMPLETIONS: frozenset[Dialect] = frozenset(
    {"openai", "compatible", "nim", "sglang", "deepseek", "vllm-server"}
)
"""Dialects of the OpenAI family; they differ in `nemoflows.engines.openai.dialects`."""

CLAUDE: frozenset[Dialect] = frozenset({"anthropic", "anthropic-batch"})
"""Dialects that take Anthropic's messages, one by one or as a batch."""

BATCHED: frozenset[Dialect] = frozenset({"anthropic-batch"})
"""Dialects whose calls wait for a batch and cost what the provider asks for batches."""

REMOTE: frozenset[Dialect] = CHAT_COMPLETIONS | CLAUDE
"""Dialects that ask an address."""


class Endpoint(Value):
    """A named place where models are asked, and the dialect it speaks."""

    model_config = ConfigDict(hide_input_in_errors=True)

    dialect: Dialect
    base_url: str = ""
    """Address; for `fake` the script's path. Empty takes the SDK's own default."""
    key_env: str = ""
    """Environment variable with the key; empty where none is needed."""
    price_key: str = ""
    """Provider id in the price table; empty leaves calls unpriced."""
    usd_per_mtok: tuple[float, float] | None = Field(default=None)
    """Own price in USD per million input and output tokens; beats the table."""
    usd_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Own price in USD of one GPU for an hour: a call costs its share of the time it took."""
    gpus: int = Field(default=1, gt=0)
    """GPUs that serve the endpoint, for its price per GPU-hour."""
    tokens_per_s: float | None = Field(default=None, gt=0)
    """Tokens per second, read or written, that the GPUs never fall below: bounds what a call can
    cost at a price per GPU-hour, which a budget needs."""
    rpm: int | None = Field(default=None, gt=0)
    """Requests per minute that the endpoint allows; None asks as fast as it answers."""
    itpm: int | None = Field(default=None, gt=0)
    """Input tokens per minute."""
    otpm: int | None = Field(default=None, gt=0)
    """Output tokens per minute."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        if secret_in(value):
            raise ValueError("an address must hold no user, password or query: use key_env")
        return value

    @field_validator("key_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "no name of an environment variable: the name goes here, the key into the variable"
            )
        return value


SidecarKind = Literal["vllm", "nim", "ollama"]
"""Servers that can run beside a task, in its pod."""

SIDECARS: dict[SidecarKind, Endpoint] = {
    "vllm": Endpoint(dialect="vllm-server", base_url="http://127.0.0.1:8000/v1"),
    "nim": Endpoint(dialect="nim", base_url="http://127.0.0.1:8000/v1"),
    "ollama": Endpoint(dialect="compatible", base_url="http://127.0.0.1:11434/v1"),
}
"""What the endpoint `sidecar` is, by `server` in NEMOFLOWS_HARDWARE: containers of a pod share
loopback."""

BUILT_IN = {
    BUILTIN: Endpoint(dialect="builtin"),
    "sidecar": SIDECARS["vllm"],
    "fake": Endpoint(dialect="fake"),
    "dense": Endpoint(dialect="dense"),
    "vllm": Endpoint(dialect="vllm"),
    "openai": Endpoint(dialect="openai", key_env="OPENAI_API_KEY", price_key="openai"),
    "nim": Endpoint(
        dialect="nim",
        base_url="https://integrate.api.nvidia.com/v1",
        key_env="NVIDIA_API_KEY",
    ),
    "deepseek": Endpoint(
        dialect="deepseek",
        base_url="https://api.deepseek.com",
        key_env="DEEPSEEK_API_KEY",
        price_key="deepseek",
    ),
    "sglang": Endpoint(dialect="sglang", base_url="http://127.0.0.1:30000/v1"),
    "vllm-server": Endpoint(dialect="vllm-server", base_url="http://127.0.0.1:8000/v1"),
    "anthropic": Endpoint(dialect="anthropic", key_env="ANTHROPIC_API_KEY", price_key="anthropic"),
    "anthropic-batch": Endpoint(
        dialect="anthropic-batch", key_env="ANTHROPIC_API_KEY", price_key="anthropic"
    ),
}
"""Endpoints that need no declaration."""

DEFAULT_URL: dict[Dialect, str] = {
    built_in.dialect: built_in.base_url for built_in in BUILT_IN.values() if built_in.base_url
}
"""Where a declared endpoint lies that names no address; others take the SDK's own default."""

BASE_URL_ENV = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "anthropic-batch": "ANTHROPIC_BASE_URL",
}
"""The SDKs' variables for the address; these built-in endpoints alone see any of an SDK's."""

FREE: frozenset[Dialect] = frozenset({"builtin", "dense"})
"""Dialects whose calls cost nothing but this machine's time."""

IN_PROCESS: frozenset[Dialect] = frozenset({"vllm"})
"""Dialects whose model runs inside the task, on the task's GPU."""
