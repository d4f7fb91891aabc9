"""Models that were read about: what each is, takes, weighs, and under which terms.

A choice, not a limit: any model can be named, and any model with a `config.json` can be planned.

Source: the models' cards, papers and configurations, vLLM's recipes (vllm-project/recipes at
8959cf6), the providers' pages and genai-prices 0.2.3, read in November 2026. Contexts are what a
model can take; a server may be started with less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from nemoflows.models.abilities import openai_abilities
from nemoflows.models.endpoints import CLAUDE, Dialect
from nemoflows.models.geometry import Attention, Experts, Geometry, Recurrence
from nemoflows.types import Value

Precision = Literal["bf16", "fp8", "nvfp4", "mxfp4", "gguf"]
"""The form that weights are published in; `gguf` (4 bits) is for llama.cpp and Ollama."""


class Sampling(Value):
    """What the model's makers advise."""

    temperature: float
    top_p: float


class OpenModel(Value):
    """A model whose weights are open."""

    name: str
    """Hub id, without a precision where it is published in several."""
    released: str
    """Year and month, as far as it is known."""
    licence: str
    geometry: Geometry
    context_tokens: int
    configured_tokens: int = 0
    """Context that its config.json states where that is less; 0 where it is the same."""
    thinking: str = "no"
    """How its thinking can be set."""
    weights_gb: Mapping[Precision, float]
    """Size of the weights as published, in GB (10⁹ bytes); the first is the default."""
    hub_ids: Mapping[Precision, str] = Field(default_factory=dict)
    """Hub id by precision; empty where the name is the id."""
    sampling: Sampling
    reasoning_parsers: Mapping[str, str] = Field(default_factory=dict)
    """Name of the parser for thinking, by server."""
    tool_parsers: Mapping[str, str] = Field(default_factory=dict)
    recipe_gb: Mapping[Precision, float] = Field(default_factory=dict)
    """Least memory in GB that vLLM's recipe asks for."""

    def hub_id(self, precision: Precision) -> str:
        """Return the id that the weights of a precision have on the hub."""
        return self.hub_ids.get(precision, self.name)


def _hybrid(hidden: int, recurrence: Recurrence, attention: Attention, **more: Any) -> Geometry:
    """Return a Nemotron-H: two matrices per network, a vocabulary of 131,072."""
    return Geometry(
        hidden=hidden,
        vocabulary=131_072,
        recurrence=recurrence,
        attention=attention,
        gated=False,
        **more,
    )


_NANO = _hybrid(
    2688,
    Recurrence(layers=23, heads=64, head_dim=64, state=128, groups=8),
    Attention(layers=6, heads=32, kv_heads=2, head_dim=128),
    experts=Experts(layers=23, n=128, n_active=6, width=1856, shared_width=3712),
)

_SUPER = _hybrid(
    4096,
    Recurrence(layers=40, heads=128, head_dim=64, state=128, groups=8),
    Attention(layers=8, heads=32, kv_heads=2, head_dim=128),
    experts=Experts(layers=40, n=512, n_active=22, width=2688, shared_width=5376, latent=1024),
)

_ULTRA = _hybrid(
    8192,
    Recurrence(layers=48, heads=256, head_dim=64, state=128, groups=8),
    Attention(layers=12, heads=64, kv_heads=2, head_dim=128),
    experts=Experts(layers=48, n=512, n_active=22, width=5120, shared_width=10_240, latent=2048),
)

_NANO_4B = _hybrid(
    3136,
    Recurrence(layers=21, heads=96, head_dim=80, state=128, groups=8),
    Attention(layers=4, heads=40, kv_heads=8, head_dim=128),
    mlp_layers=17,
    mlp_width=12_544,
)


def _nemotron(name: str, precisions: str, *, tools: str = "qwen3_coder", **more: Any) -> OpenModel:
    known: Mapping[str, Precision] = {
        "BF16": "bf16", "FP8": "fp8", "NVFP4": "nvfp4", "GGUF": "gguf",
    }  # fmt: skip
    full = f"nvidia/NVIDIA-Nemotron-{name}"
    return OpenModel(
        name=full,
        hub_ids={known[part]: f"{full}-{part}" for part in precisions.split()},
        thinking="off, on, budget",
        reasoning_parsers={
            "vllm": "nemotron_v3", "sglang": "nemotron_3", "trtllm": "nano-v3",
        },
        tool_parsers={"vllm": tools, "nim": "qwen3_coder", "sglang": "qwen3_coder"},
        **more,
    )  # fmt: skip


_OWN_TERMS = "NVIDIA Open Model License"

OPEN_MODELS = (
    _nemotron(
        "3-Nano-30B-A3B", "BF16 FP8 NVFP4", released="2025-12", licence=_OWN_TERMS,
        geometry=_NANO, context_tokens=1_000_000, configured_tokens=262_144,
        weights_gb={"bf16": 63, "fp8": 33, "nvfp4": 21},
        sampling=Sampling(temperature=1.0, top_p=1.0), recipe_gb={"bf16": 72, "fp8": 35},
    ),
    _nemotron(
        "3.5-Lightning-30B-A3B", "BF16 NVFP4", tools="qwen3_xml", released="2026-08",
        licence="other: read its card", geometry=_NANO, context_tokens=1_000_000,
        weights_gb={"bf16": 63, "nvfp4": 18}, sampling=Sampling(temperature=1.0, top_p=0.95),
        recipe_gb={"bf16": 72, "nvfp4": 18},
    ),
    _nemotron(
        "3-Super-120B-A12B", "BF16 FP8 NVFP4", tools="qwen3_xml", released="2026-03",
        licence=_OWN_TERMS, geometry=_SUPER, context_tokens=1_000_000, configured_tokens=262_144,
        weights_gb={"bf16": 248, "fp8": 124, "nvfp4": 75},
        sampling=Sampling(temperature=1.0, top_p=0.95),
        recipe_gb={"bf16": 298, "fp8": 149, "nvfp4": 75},
    ),
    _nemotron(
        "3-Ultra-550B-A55B", "BF16 NVFP4", released="2026-06", licence="OpenMDW 1.1",
        geometry=_ULTRA, context_tokens=1_000_000, weights_gb={"bf16": 1121, "nvfp4": 352.3},
        sampling=Sampling(temperature=1.0, top_p=0.95), recipe_gb={"bf16": 1320, "nvfp4": 330},
    ),
    _nemotron(
        "3-Nano-4B", "BF16 FP8 GGUF", released="2026-03", licence=_OWN_TERMS, geometry=_NANO_4B,
        context_tokens=262_144, weights_gb={"bf16": 8, "fp8": 5, "gguf": 3},
        sampling=Sampling(temperature=1.0, top_p=0.95), recipe_gb={"bf16": 10, "fp8": 5},
    ),
    OpenModel(
        name="mistralai/Mixtral-8x7B-Instruct-v0.1", released="2023-12", licence="Apache-2.0",
        geometry=Geometry(
            hidden=4096, vocabulary=32_000,
            attention=Attention(layers=32, heads=32, kv_heads=8, head_dim=128),
            experts=Experts(layers=32, n=8, n_active=2, width=14_336),
        ),
        context_tokens=32_768, weights_gb={"bf16": 93.4}, tool_parsers={"vllm": "mistral"},
        sampling=Sampling(temperature=0.7, top_p=1.0),
    ),
    OpenModel(
        name="Qwen/Qwen3-30B-A3B", released="2025-04", licence="Apache-2.0",
        geometry=Geometry(
            hidden=2048, vocabulary=151_936,
            attention=Attention(layers=48, heads=32, kv_heads=4, head_dim=128),
            experts=Experts(layers=48, n=128, n_active=8, width=768),
        ),
        context_tokens=40_960, thinking="off, on", weights_gb={"bf16": 61.1, "fp8": 31.2},
        hub_ids={"bf16": "Qwen/Qwen3-30B-A3B", "fp8": "Qwen/Qwen3-30B-A3B-FP8"},
        reasoning_parsers={"vllm": "qwen3", "sglang": "qwen3"}, tool_parsers={"vllm": "hermes"},
        sampling=Sampling(temperature=0.6, top_p=0.95),
    ),
    OpenModel(
        name="openai/gpt-oss-120b", released="2025-08", licence="Apache-2.0",
        geometry=Geometry(
            hidden=2880, vocabulary=201_088,
            attention=Attention(
                layers=18, heads=64, kv_heads=8, head_dim=64, window_layers=18, window_tokens=128
            ),
            experts=Experts(layers=36, n=128, n_active=4, width=2880),
        ),
        context_tokens=131_072, thinking="always, by effort", weights_gb={"mxfp4": 65.3},
        reasoning_parsers={"vllm": "openai_gptoss", "sglang": "gpt-oss"},
        tool_parsers={"vllm": "openai"}, sampling=Sampling(temperature=1.0, top_p=1.0),
    ),
    OpenModel(
        name="allenai/Olmo-Hybrid-7B", released="2026-03", licence="Apache-2.0",
        geometry=Geometry(
            hidden=3840, vocabulary=100_352,
            attention=Attention(layers=8, heads=30, kv_heads=30, head_dim=128),
            recurrence=Recurrence(
                layers=24, heads=30, head_dim=192, state=96, groups=30, state_bytes=2
            ),
            mlp_layers=32, mlp_width=11_008,
        ),
        context_tokens=65_536, weights_gb={"bf16": 14.9},
        sampling=Sampling(temperature=0.6, top_p=0.95),
    ),
    OpenModel(
        name="Qwen/Qwen3-8B", released="2025-04", licence="Apache-2.0",
        geometry=Geometry(
            hidden=4096, vocabulary=151_936,
            attention=Attention(layers=36, heads=32, kv_heads=8, head_dim=128),
            mlp_layers=36, mlp_width=12_288,
        ),
        context_tokens=40_960, thinking="off, on", weights_gb={"bf16": 16.4, "fp8": 9.4},
        hub_ids={"bf16": "Qwen/Qwen3-8B", "fp8": "Qwen/Qwen3-8B-FP8"},
        reasoning_parsers={"vllm": "qwen3", "sglang": "qwen3"}, tool_parsers={"vllm": "hermes"},
        sampling=Sampling(temperature=0.6, top_p=0.95),
    ),
    OpenModel(
        name="Qwen/Qwen3-32B", released="2025-04", licence="Apache-2.0",
        geometry=Geometry(
            hidden=5120, vocabulary=151_936,
            attention=Attention(layers=64, heads=64, kv_heads=8, head_dim=128),
            mlp_layers=64, mlp_width=25_600,
        ),
        context_tokens=40_960, thinking="off, on", weights_gb={"bf16": 65.5, "fp8": 34.3},
        hub_ids={"bf16": "Qwen/Qwen3-32B", "fp8": "Qwen/Qwen3-32B-FP8"},
        reasoning_parsers={"vllm": "qwen3", "sglang": "qwen3"}, tool_parsers={"vllm": "hermes"},
        sampling=Sampling(temperature=0.6, top_p=0.95),
    ),
)  # fmt: skip
"""Open models for the efficient tier's seat: the Nemotron 3 family first, then others.

Sizes of other models' weights are those of the files on the hub; `Olmo-Hybrid-7B` is a base model
whose size is computed at 2 bytes per parameter.
"""


class Known(Value):
    """A model as the command line lists it."""

    name: str
    """Hub id without its precision, or the name at its provider."""
    reached_by: str
    """Endpoints of ours that lead to it."""
    context_tokens: int
    thinking: str
    licence: str
    """Of open weights; a provider's terms otherwise."""


def _frontier(name: str, provider: str, context_tokens: int, thinking: str) -> Known:
    return Known(
        name=name,
        reached_by=provider,
        context_tokens=context_tokens,
        thinking=thinking,
        licence="provider's terms",
    )


FRONTIER = (
    _frontier("claude-fable-5-2", "anthropic", 1_000_000, "always, by effort"),
    _frontier("claude-opus-5-5", "anthropic", 1_000_000, "always, by effort"),
    _frontier("claude-sonnet-5-5", "anthropic", 1_000_000, "off, on, effort"),
    _frontier("claude-haiku-5-5", "anthropic", 1_000_000, "off, on, effort"),
    _frontier("claude-haiku-4-5", "anthropic", 200_000, "off, on, budget"),
    _frontier("gpt-6-astra", "openai", 1_050_000, "off, on, effort"),
    _frontier("gpt-6-luna", "openai", 1_050_000, "off, on, effort"),
    _frontier("deepseek-flash", "deepseek", 1_000_000, "off, on, effort"),
)
"""Models behind a provider's API; `nemoflows.models` knows what each lets a caller decide."""

KNOWN = (
    *(
        Known(
            name=model.name,
            reached_by="vllm, sidecar, vllm-server, sglang, nim",
            context_tokens=model.context_tokens,
            thinking=model.thinking,
            licence=model.licence,
        )
        for model in OPEN_MODELS
    ),
    *FRONTIER,
)
"""Every model above, as one list."""


def can_think(dialect: Dialect, name: str) -> bool:
    """Return whether a model is known to think where it is told to."""
    if dialect in CLAUDE:
        return True
    if dialect == "openai":
        return openai_abilities(name).reasons
    return any(known.name.lower() in name.lower() for known in KNOWN)
