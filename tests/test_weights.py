"""The catalogue agrees with itself and with what is published; any config.json can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows.errors import BadModel
from nemoflows.models.catalogue import FRONTIER, KNOWN, OPEN_MODELS
from nemoflows.models.geometry import from_config
from nemoflows.models.weights import described, open_model, precision_of, quantised, weights_of

PUBLISHED_B = {
    "NVIDIA-Nemotron-3-Nano-30B-A3B": (31.6, 3.2),
    "NVIDIA-Nemotron-3.5-Lightning-30B-A3B": (31.6, 3.2),
    "NVIDIA-Nemotron-3-Super-120B-A12B": (120.6, 12.2),
    "NVIDIA-Nemotron-3-Ultra-550B-A55B": (550, 55),
    "NVIDIA-Nemotron-3-Nano-4B": (3.97, 3.56),
    "Mixtral-8x7B-Instruct-v0.1": (46.7, 12.9),
    "Qwen3-30B-A3B": (30.5, 3.0),
    "gpt-oss-120b": (116.8, 5.1),
    "Olmo-Hybrid-7B": (7.43, 7.04),
    "Qwen3-8B": (8.2, 7.57),
    "Qwen3-32B": (32.8, 32.0),
}
"""Parameters in billions by the models' cards and papers; active ones less the input embedding
(Super's card counts it: 12.7; Qwen3's does: 3.3). For dense models the second is arithmetic."""

PATTERN = "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-"
NANO_4B: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 3136, "vocab_size": 131_072,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
    "mamba_num_heads": 96, "mamba_head_dim": 80, "ssm_state_size": 128, "n_groups": 8,
    "conv_kernel": 4, "intermediate_size": 12_544, "max_position_embeddings": 262_144,
    "n_routed_experts": 8, "hybrid_override_pattern": PATTERN,
}  # fmt: skip


@pytest.mark.parametrize("model", OPEN_MODELS, ids=lambda model: model.name)
def test_a_shape_has_the_published_number_of_parameters(model: Any) -> None:
    total, active = PUBLISHED_B[model.name.partition("/")[2]]
    assert model.geometry.parameters() == pytest.approx(total * 1e9, rel=0.005)
    assert model.geometry.parameters(active=True) == pytest.approx(active * 1e9, rel=0.02)


@pytest.mark.parametrize("model", OPEN_MODELS, ids=lambda model: model.name)
def test_published_weights_weigh_what_their_precision_says(model: Any) -> None:
    for precision, size_gb in model.weights_gb.items():
        weights = weights_of(model.hub_id(precision))
        assert weights is not None
        assert weights.weights_bytes == round(size_gb * 1e9)
        per_parameter = weights.weights_bytes / weights.geometry.parameters()
        low, high = {"bf16": (1.9, 2.1), "fp8": (0.99, 1.3), "gguf": (0.5, 0.9)}.get(
            precision, (0.5, 0.7)
        )
        assert low < per_parameter < high


def test_every_model_has_a_licence_and_the_command_line_lists_them_all() -> None:
    assert [model.name for model in KNOWN] == [m.name for m in (*OPEN_MODELS, *FRONTIER)]
    assert all(model.licence and model.context_tokens for model in KNOWN)


def test_nemotron_is_read_in_both_of_its_spellings() -> None:
    names = {"M": "mamba", "*": "attention", "-": "mlp"}
    listed = {key: NANO_4B[key] for key in NANO_4B if key != "hybrid_override_pattern"}
    listed["layers_block_type"] = [names[letter] for letter in PATTERN]
    ours = open_model("nvidia/NVIDIA-Nemotron-3-Nano-4B-FP8")
    assert ours is not None
    assert from_config(NANO_4B) == from_config(listed) == ours.geometry
    later = {"mamba": "linear_attention", "attention": "full_attention", "mlp": "mlp"}
    saved = [later[name] for name in listed["layers_block_type"]]
    assert from_config(listed | {"layers_block_type": saved}) == ours.geometry


def test_configurations_of_other_families_are_read() -> None:
    shared = {"hidden_size": 2880, "vocab_size": 201_088, "num_hidden_layers": 36,
              "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64}  # fmt: skip
    kinds = ["sliding_attention", "full_attention"] * 18
    oss = from_config(
        shared
        | {
            "model_type": "gpt_oss",
            "layer_types": kinds,
            "sliding_window": 128,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "intermediate_size": 2880,
        }
    )
    row = open_model("openai/gpt-oss-120b")
    assert row is not None
    assert oss.attention == row.geometry.attention
    assert oss.experts == row.geometry.experts
    dense = from_config(shared | {"model_type": "llama", "intermediate_size": 9, "head_dim": None})
    assert dense.attention.layers == 36
    assert dense.attention.head_dim == 45
    assert dense.mlp_layers == 36
    assert dense.experts is None


def test_a_hybrid_with_gated_deltanet_fits_the_same_terms() -> None:
    row = open_model("allenai/Olmo-Hybrid-7B")
    assert row is not None
    config = {
        "model_type": "olmo_hybrid", "hidden_size": 3840, "vocab_size": 100_352,
        "num_hidden_layers": 32, "num_attention_heads": 30, "intermediate_size": 11_008,
        "layer_types": [*["linear_attention"] * 3, "full_attention"] * 8,
        "linear_num_key_heads": 30, "linear_num_value_heads": 30, "linear_key_head_dim": 96,
        "linear_value_head_dim": 192,
    }  # fmt: skip
    assert from_config(config) == row.geometry


def test_a_configuration_without_a_shape_is_refused_with_the_reason() -> None:
    with pytest.raises(BadModel, match="num_attention_heads"):
        from_config(
            {"model_type": "odd", "hidden_size": 1, "vocab_size": 1, "num_hidden_layers": 1}
        )
    with pytest.raises(BadModel, match="latent"):
        from_config({"model_type": "deepseek_v3", "kv_lora_rank": 512})


def test_a_local_folder_is_read_and_weighed_by_its_configuration(tmp_path: Path) -> None:
    assert weights_of(str(tmp_path)) is None
    config = NANO_4B | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = weights_of(str(tmp_path))
    assert found is not None
    assert found.precision == "fp8"
    assert found.context_tokens == 262_144
    assert found.weights_bytes == pytest.approx(5e9, rel=0.05)
    whole = described("x", NANO_4B)
    assert whole.precision == "bf16"
    assert whole.weights_bytes == pytest.approx(7.95e9, rel=0.01)


def test_names_carry_their_precision_and_a_wish_overrides_it() -> None:
    nano = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"
    assert precision_of(f"{nano}-FP8") == "fp8"
    assert precision_of("Qwen/Qwen3-8B") is None
    chosen = weights_of(f"{nano}-FP8", "nvfp4")
    assert chosen is not None
    assert (chosen.name, chosen.precision) == (f"{nano}-NVFP4", "nvfp4")
    plain = weights_of(nano)
    assert plain is not None
    assert plain.name == f"{nano}-BF16"
    assert weights_of("nobody/knows-it") is None
    assert quantised({"quantization_config": {"quant_method": "mxfp4"}}) == "mxfp4"
