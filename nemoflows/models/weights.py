"""What is known of the weights behind a model's name: size, precision, shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemoflows.models.catalogue import OPEN_MODELS, OpenModel, Precision
from nemoflows.models.geometry import Geometry, from_config, read_config
from nemoflows.types import Value

WEIGHT_BYTES: Mapping[Precision, float] = {
    "bf16": 2.0,
    "fp8": 1.0,
    "nvfp4": 0.5625,
    "mxfp4": 0.53125,
    "gguf": 0.61,
}
"""Bytes per parameter where no weights were published to look at.

Source: NVFP4 has a scale of 8 bits per 16 numbers, MXFP4 per 32; GGUF is Q4_K_M as llama.cpp
states it, 4.9 bits.
"""


class Weights(Value):
    """What is known of the weights behind a model's name."""

    name: str
    precision: Precision
    geometry: Geometry
    weights_bytes: int
    context_tokens: int
    model: OpenModel | None = None
    """The catalogue's row; None for a model that only its config.json describes."""


_SUFFIX = re.compile(r"[-_](bf16|fp8|nvfp4|mxfp4|gguf)$", re.IGNORECASE)


def open_model(name: str) -> OpenModel | None:
    """Return the catalogue's row for a hub id, whatever its precision or the case it is in."""
    plain = name.lower().rpartition("/")[2]
    for model in OPEN_MODELS:
        ids = {model.name, *model.hub_ids.values()}
        if plain in {known.lower().rpartition("/")[2] for known in ids}:
            return model
    return None


def precision_of(name: str) -> Precision | None:
    """Return the precision that a hub id ends with."""
    spelled: Mapping[str, Precision] = {precision: precision for precision in WEIGHT_BYTES}
    found = _SUFFIX.search(name)
    return spelled[found[1].lower()] if found else None


def weights_of(name: str, precision: Precision | None = None) -> Weights | None:
    """Return what is known of a model by its hub id, or by the `config.json` of a local folder.

    Args:
        name: Hub id or local folder.
        precision: Overrides what the name or the configuration says.

    Returns:
        None where neither the catalogue nor a configuration knows the model.

    Raises:
        BadModel: The configuration gives no geometry.
    """
    model = open_model(name)
    if model is not None:
        default: Precision = next(iter(model.weights_gb))
        chosen = precision or precision_of(name) or default
        published = model.weights_gb.get(chosen)
        n_bytes = published * 1e9 if published else _computed(model.geometry, chosen)
        return Weights(
            name=name if precision_of(name) == chosen else model.hub_id(chosen),
            precision=chosen,
            geometry=model.geometry,
            weights_bytes=round(n_bytes),
            context_tokens=model.context_tokens,
            model=model,
        )
    config = read_config(Path(name))
    return None if config is None else described(name, config, precision)


def described(name: str, config: Mapping[str, Any], precision: Precision | None = None) -> Weights:
    """Return what a `config.json` says of a model's weights.

    Raises:
        BadModel: The configuration gives no geometry.
    """
    geometry = from_config(config)
    chosen = precision or quantised(config) or precision_of(name) or "bf16"
    text = config.get("text_config") or config
    context = text.get("max_position_embeddings") or 0
    return Weights(
        name=name,
        precision=chosen,
        geometry=geometry,
        weights_bytes=round(_computed(geometry, chosen)),
        context_tokens=context if isinstance(context, int) else 0,
    )


def quantised(config: Mapping[str, Any]) -> Precision | None:
    """Return the precision that a configuration's `quantization_config` names."""
    given = config.get("quantization_config") or {}
    if not isinstance(given, Mapping):
        return None
    words = f"{given.get('quant_method', '')} {given.get('quant_algo', '')}".lower()
    names: tuple[Precision, ...] = ("nvfp4", "mxfp4", "fp8")
    return next((name for name in names if name in words), None)


def _computed(geometry: Geometry, precision: Precision) -> float:
    """Return bytes of weights nobody weighed: embeddings and output stay in 2 bytes."""
    outer = geometry.vocabulary * geometry.hidden * (1 if geometry.tied else 2)
    return outer * 2 + (geometry.parameters() - outer) * WEIGHT_BYTES[precision]
