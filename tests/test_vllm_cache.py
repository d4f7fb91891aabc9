"""The planner's arithmetic is vLLM's own: the real engine logs what `layout` computes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemoflows.gpus import GIB, layout
from nemoflows.models.geometry import from_config
from tests.support import ROOT

pytestmark = pytest.mark.vllm
CONTEXT_TOKENS, STEP_TOKENS = 4096, 512

SMALL = {
    "hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 2048,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 8192,
}  # fmt: skip
HYBRID = SMALL | {"mamba_num_heads": 8, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 1}
LARGE_STATES = {"mamba_num_heads": 64, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("NemotronHConfig", HYBRID | {"hybrid_override_pattern": "M-*-"}),
    "nano": (
        "NemotronHConfig",
        HYBRID
        | LARGE_STATES
        | {"head_dim": 128, "hybrid_override_pattern": "M-M-M*" * 6 + "MMMMM"},
    ),
    "uneven": (
        "NemotronHConfig",
        HYBRID | {"ssm_state_size": 128, "hybrid_override_pattern": "M-*-M-*-M-"},
    ),
    "dense": ("LlamaConfig", SMALL | {"num_hidden_layers": 6}),
    "window": ("Olmo3Config", SMALL | {"num_hidden_layers": 8, "sliding_window": 256}),
}
"""Nano's own layers and states without its experts, layers that do not divide into groups, and
models without states, one of them with windows."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")
    from tests.tiny_nemotron import make_tokeniser

    made = {}
    for name, (kind, fields) in CONFIGS.items():
        folder = tmp_path_factory.mktemp(name)
        config = getattr(transformers, kind)(**fields)
        config.architectures = [kind.replace("Config", "ForCausalLM")]
        config.save_pretrained(folder)
        make_tokeniser().save_pretrained(folder)
        made[name] = folder
    return made


@pytest.fixture(scope="module")
def logs(folders: dict[str, Path]) -> dict[tuple[str, bool], str]:
    """Return what vLLM logged at each start, by model and prefix caching."""
    cases = [(name, caching) for name in folders for caching in (False, True)]
    starts = [
        {
            "model": str(folders[name]),
            "max_model_len": CONTEXT_TOKENS,
            "max_num_seqs": 4,
            "max_num_batched_tokens": STEP_TOKENS,
            "enable_prefix_caching": caching,
        }
        for name, caching in cases
    ]
    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("cache_sizes.py")), json.dumps(starts)],
        cwd=ROOT,
        env={**os.environ, "VLLM_NO_USAGE_STATS": "1", **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return dict(zip(cases, re.split(r"^START$", done.stdout, flags=re.MULTILINE)[1:], strict=True))


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_is_as_large_as_vllm_says(
    name: str, folders: dict[str, Path], logs: dict[tuple[str, bool], str], *, caching: bool
) -> None:
    log = logs[name, caching]
    computed = layout(
        from_config(json.loads((folders[name] / "config.json").read_text())),
        prefix_caching=caching,
        align_tokens=128,
        in_flight_tokens=STEP_TOKENS,
    )
    [(tokens, concurrency)] = re.findall(
        r"KV cache size: ([\d,]+) tokens, Maximum concurrency for 4,096 tokens per request: "
        r"([\d.]+)x",
        log,
    )
    assert computed.tokens(GIB, CONTEXT_TOKENS) == int(tokens.replace(",", ""))
    assert f"{computed.sequences(GIB, CONTEXT_TOKENS):.2f}" == concurrency
    grown = re.findall(r"Setting attention block size to (\d+) tokens", log)
    assert grown == ([] if computed.block_tokens == 128 else [str(computed.block_tokens)])
