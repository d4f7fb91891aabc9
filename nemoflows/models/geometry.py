"""The shape of a model, as far as memory and parameters depend on it; from a row or a config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemoflows.errors import BadModel
from nemoflows.types import Value


class Attention(Value):
    """Layers that keep keys and values of every token, or of a window of them."""

    layers: int
    """Layers over the whole context."""
    heads: int
    kv_heads: int
    head_dim: int
    window_layers: int = 0
    """Layers over a sliding window, beside `layers`."""
    window_tokens: int = 0


class Recurrence(Value):
    """Layers that keep a state of fixed size per sequence: Mamba-2, or gated DeltaNet.

    The second fits the first's terms: value heads are `heads`, the width of a value is
    `head_dim`, the width of a key is `state`, and key heads are `groups`.
    """

    layers: int
    heads: int
    head_dim: int
    state: int
    groups: int
    kernel: int = 4
    """Width of the convolution before it, in tokens."""
    state_bytes: int = 4
    """Bytes per number of the state, unless the engine is told otherwise.

    Source: vLLM 0.32 keeps float32 for Nemotron-H and the model's own type for others.
    """


class Experts(Value):
    """A mixture of experts, in every one of `layers`."""

    layers: int
    n: int
    n_active: int
    """Experts that a token is sent to."""
    width: int
    shared_width: int = 0
    """Width of the expert that every token passes; 0 without one."""
    latent: int = 0
    """Width that tokens are projected to before the experts; 0 leaves the hidden one."""


class Geometry(Value):
    """A model's shape: what fixes its weights, its cache and its state."""

    hidden: int
    vocabulary: int
    attention: Attention
    recurrence: Recurrence | None = None
    experts: Experts | None = None
    mlp_layers: int = 0
    """Layers with a feed-forward network that every token passes."""
    mlp_width: int = 0
    gated: bool = True
    """Whether networks and experts have a gate: three matrices, otherwise two."""
    tied: bool = False
    """Whether the output layer shares the embedding's matrix."""

    def parameters(self, *, active: bool = False) -> int:
        """Return the number of parameters; `active` counts those that one token uses.

        Norms, biases and convolutions are left out, together below 0.1 %. Active ones leave the
        input embedding out too, which is a look-up.

        Source: the layers' definitions in vLLM 0.32. The counts that the cards give are met
        within 2 %, which a test checks.
        """
        embeddings = self.vocabulary * self.hidden * (1 if self.tied or active else 2)
        mlp = self.mlp_layers * self._network(self.hidden, self.mlp_width)
        return embeddings + self._attending() + self._recurring() + mlp + self._experts(active)

    def _attending(self) -> int:
        own = self.attention
        per_layer = 2 * self.hidden * own.head_dim * (own.heads + own.kv_heads)
        return (own.layers + own.window_layers) * per_layer

    def _recurring(self) -> int:
        own = self.recurrence
        if own is None:
            return 0
        inner = own.heads * own.head_dim
        entering = 2 * inner + 2 * own.groups * own.state + own.heads
        return own.layers * self.hidden * (entering + inner)

    def _experts(self, active: bool) -> int:
        own = self.experts
        if own is None:
            return 0
        routed = self._network(own.latent or self.hidden, own.width)
        shared = self._network(self.hidden, own.shared_width)
        projections = 2 * self.hidden * own.latent + self.hidden * own.n
        n = own.n_active if active else own.n
        return own.layers * (n * routed + shared + projections)

    def _network(self, outer: int, width: int) -> int:
        return (3 if self.gated else 2) * outer * width


def read_config(folder: Path) -> Mapping[str, Any] | None:
    """Return the `config.json` of a local model; None where there is none.

    Raises:
        BadModel: It is no JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadModel(f"{path} is no JSON: {error}. Name a model's folder.") from None
    return found if isinstance(found, dict) else None


def from_config(config: Mapping[str, Any]) -> Geometry:
    """Read a geometry from a Hugging Face `config.json`.

    Nemotron-H is read in both its spellings: `hybrid_override_pattern` as NVIDIA writes it, and
    `layers_block_type` as transformers 5 saves it.

    Raises:
        BadModel: The configuration misses what is needed, or its attention is of a kind whose
            cache has another form (multi-head latent attention).
    """
    own = config.get("text_config") or config
    if "kv_lora_rank" in own:
        raise _no_geometry(own, "its attention keeps a latent instead of keys and values")
    try:
        kinds = layer_kinds(own)
        read = Geometry(
            hidden=own["hidden_size"],
            vocabulary=own["vocab_size"],
            attention=_attention(own, kinds),
            recurrence=_recurrence(own, kinds),
            experts=_experts(own, kinds),
            mlp_layers=kinds.count("mlp"),
            mlp_width=own.get("intermediate_size") or 0,
            gated=own.get("model_type") != "nemotron_h",
            tied=bool(own.get("tie_word_embeddings", False)),
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _no_geometry(own, f"{error} is missing or odd") from error
    if not kinds or read.hidden <= 0 or read.vocabulary <= 0:
        raise _no_geometry(own, "it has no layers, or no width")
    return read


def _no_geometry(config: Mapping[str, Any], why: str) -> BadModel:
    return BadModel(
        f"The config.json of a model of type {config.get('model_type')!r} gives no geometry: {why}."
        " Name NEMOFLOWS_GPU with its number, and vLLM's `engine_arguments` in "
        "NEMOFLOWS_HARDWARE, yourself."
    )


_LETTERS = {"M": ["recurrent"], "*": ["attention"], "E": ["experts"], "-": ["mlp"]}

_NAMES = {
    "mamba": "recurrent",
    "linear_attention": "recurrent",
    "attention": "attention",
    "full_attention": "attention",
    "sliding_attention": "window",
    "moe": "experts",
    "mlp": "mlp",
}


def layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """Return the kinds of a model's layers: attention, window, recurrent, mlp, experts.

    A layer of Nemotron-H is one of them; of other models it is one that mixes tokens and one that
    does not.
    """
    if config.get("model_type") == "nemotron_h":
        named = config.get("layers_block_type")
        if named:
            return [_NAMES[name] for name in named]
        return [kind for letter in config["hybrid_override_pattern"] for kind in _LETTERS[letter]]
    n_layers = config["num_hidden_layers"]
    mixing = [_NAMES[name] for name in config.get("layer_types") or ["full_attention"] * n_layers]
    dense = set(config.get("mlp_only_layers") or ())
    has_experts = _n_experts(config) > 1
    networks = ["experts" if has_experts and i not in dense else "mlp" for i in range(n_layers)]
    return mixing + networks


def _attention(config: Mapping[str, Any], kinds: Sequence[str]) -> Attention:
    heads = config["num_attention_heads"]
    return Attention(
        layers=kinds.count("attention"),
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        window_layers=kinds.count("window"),
        window_tokens=config["sliding_window"] if "window" in kinds else 0,
    )


def _recurrence(config: Mapping[str, Any], kinds: Sequence[str]) -> Recurrence | None:
    layers = kinds.count("recurrent")
    if not layers:
        return None
    if "mamba_num_heads" in config:
        return Recurrence(
            layers=layers,
            heads=config["mamba_num_heads"],
            head_dim=config["mamba_head_dim"],
            state=config["ssm_state_size"],
            groups=config["n_groups"],
            kernel=config.get("conv_kernel", 4),
        )
    return Recurrence(
        layers=layers,
        heads=config["linear_num_value_heads"],
        head_dim=config["linear_value_head_dim"],
        state=config["linear_key_head_dim"],
        groups=config["linear_num_key_heads"],
        kernel=config.get("linear_conv_kernel_dim", 4),
        state_bytes=2,
    )


def _n_experts(config: Mapping[str, Any]) -> int:
    names = ("n_routed_experts", "num_local_experts", "num_experts")
    return next((config[name] for name in names if config.get(name)), 0)


def _experts(config: Mapping[str, Any], kinds: Sequence[str]) -> Experts | None:
    layers = kinds.count("experts")
    if not layers:
        return None
    return Experts(
        layers=layers,
        n=_n_experts(config),
        n_active=config["num_experts_per_tok"],
        width=config.get("moe_intermediate_size") or config["intermediate_size"],
        shared_width=config.get("moe_shared_expert_intermediate_size") or 0,
        latent=config.get("moe_latent_size") or 0,
    )
