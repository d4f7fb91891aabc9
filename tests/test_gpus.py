"""The planner: vLLM's arithmetic, what fits where, and why something does not."""

from __future__ import annotations

import pytest

from nemoflows.errors import BadInput, BadModel
from nemoflows.gpus import GIB, GPUS, Plan, find, layout, minimum_gb, plan, splits, support
from nemoflows.models.catalogue import OPEN_MODELS
from nemoflows.models.geometry import Attention, Geometry, Recurrence
from nemoflows.models.weights import Weights, weights_of

NEMOTRON = "nvidia/NVIDIA-Nemotron-3-"


def weights(name: str, **more: object) -> Weights:
    found = weights_of(name if "/" in name else NEMOTRON + name, **more)  # type: ignore[arg-type]
    assert found is not None
    return found


TINY = Geometry(
    hidden=128,
    vocabulary=2048,
    attention=Attention(layers=1, heads=4, kv_heads=2, head_dim=32),
    recurrence=Recurrence(layers=1, heads=8, head_dim=32, state=16, groups=1),
)
NANO = OPEN_MODELS[0].geometry


@pytest.mark.parametrize(
    ("geometry", "pool_gib", "context_tokens", "caching", "logged"),
    [
        (TINY, 1, 2048, False, 3_947_580),
        (TINY, 1, 2048, True, 3_532_045),
        (NANO, 4, 8192, False, 328_704),
        (NANO, 4, 8192, True, 164_352),
    ],
)
def test_the_cache_holds_what_vllm_logged(
    geometry: Geometry, pool_gib: int, context_tokens: int, *, caching: bool, logged: int
) -> None:
    """The logs are of vLLM 0.32's CPU build, whose blocks are multiples of 128 tokens."""
    found = layout(geometry, align_tokens=128, prefix_caching=caching)
    assert found.tokens(pool_gib * GIB, context_tokens) == logged


@pytest.mark.parametrize(
    ("name", "cache_bytes", "block_tokens", "one_mib", "caching_mib"),
    [
        ("Nano-30B-A3B", 1, 4176, 147, 245),
        ("Super-120B-A12B", 1, 8320, 292, 618),
        ("Ultra-550B-A55B", 1, 16_608, 584, 1362),
        ("Nano-30B-A3B", 2, 2096, 246, 344),
    ],
)
def test_a_sequence_at_32k_takes(
    name: str, cache_bytes: int, block_tokens: int, one_mib: int, caching_mib: int
) -> None:
    geometry = weights(name).geometry
    plain = layout(geometry, cache_bytes=cache_bytes)
    caching = layout(geometry, cache_bytes=cache_bytes, prefix_caching=True)
    assert plain.block_tokens == block_tokens
    assert round(plain.sequence_bytes(32_768) / 2**20) == one_mib
    assert round(caching.sequence_bytes(32_768) / 2**20) == caching_mib


def test_heads_of_keys_and_values_are_kept_on_every_gpu_and_states_are_split() -> None:
    one, two, four = (layout(NANO, tensor_parallel=n) for n in (1, 2, 4))
    assert one.token_bytes == 2 * two.token_bytes == 2 * four.token_bytes
    assert one.state_bytes == 2 * two.state_bytes == 4 * four.state_bytes


def test_what_splits_a_model_is_checked() -> None:
    assert splits(NANO, 8) == ""
    assert "attention heads" in splits(NANO, 3)
    uneven = Geometry(
        hidden=8, vocabulary=8, attention=Attention(layers=1, heads=12, kv_heads=4, head_dim=8)
    )
    assert "keys and values" in splits(uneven, 6)
    olmo = weights("allenai/Olmo-Hybrid-7B").geometry
    assert splits(olmo, 2) == ""
    assert splits(olmo, 4)


@pytest.mark.parametrize(
    ("name", "gpu", "count", "kind"),
    [
        ("Nano-30B-A3B-FP8", "h100", 1, "native"),
        ("Nano-30B-A3B-BF16", "a100-80gb", 1, "native"),
        ("Nano-30B-A3B-NVFP4", "l4", 2, "emulated"),
        ("Nano-30B-A3B-NVFP4", "rtx4090x2", 2, "emulated"),
        ("Super-120B-A12B-NVFP4", "b200", 1, "native"),
        ("Super-120B-A12B-FP8", "h100x4", 4, "native"),
        ("Ultra-550B-A55B-NVFP4", "h100", 8, "emulated"),
        ("Nano-4B-BF16", "a10g", 2, "native"),
        ("Nano-4B-BF16", "t4x2", 2, "emulated"),
    ],
)
def test_models_fit(name: str, gpu: str, count: int, kind: str) -> None:
    made = plan(weights(name), gpu=gpu)
    assert (made.count, made.support) == (count, kind)
    assert made.fit >= 1
    assert bool(made.note) == (kind == "emulated")


def test_a_plan_adds_up() -> None:
    made = plan(weights("Nano-30B-A3B-FP8"), gpu="h100", concurrent=100)
    memory, own = made.memory, made.sequence
    parts = memory.weights + memory.activations + memory.cuda + memory.cache + memory.spare
    assert parts == made.gpu.memory_bytes
    assert own.keys_and_values == 3072 * 32_768
    assert own.state == pytest.approx(46.8 * 2**20, rel=0.001)
    one = own.keys_and_values + own.state + own.rounding
    assert one == made.layout.sequence_bytes(32_768)
    assert made.fit == (memory.cache // made.layout.block_bytes) // made.layout.blocks(32_768)
    assert made.engine_arguments() == {
        "max_model_len": 32_768,
        "max_num_seqs": 100,
        "max_num_batched_tokens": 8192,
        "gpu_memory_utilization": 0.92,
        "enable_prefix_caching": False,
        "kv_cache_dtype": "fp8",
    }
    assert f"{made.fit} sequences" in str(made)


def test_arguments_follow_the_plan() -> None:
    split = plan(weights("Super-120B-A12B-FP8"), gpu="h100x4", concurrent=5000)
    assert split.engine_arguments()["tensor_parallel_size"] == 4
    assert split.engine_arguments()["max_num_seqs"] == split.fit < 5000
    assert "wait" in str(split)
    assert plan(weights("Nano-4B-BF16"), gpu="t4x2").engine_arguments()["dtype"] == "half"
    long = plan(weights("Nano-30B-A3B-FP8"), gpu="h200", context_tokens=1_000_000, concurrent=4)
    assert long.environment() == {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert split.environment() == {}
    full = plan(weights("Nano-30B-A3B-FP8"), gpu="h100", cache="bf16")
    assert "kv_cache_dtype" not in full.engine_arguments()


def test_more_sequences_take_more_gpus_until_none_holds_them() -> None:
    nano = weights("Nano-30B-A3B-FP8")
    counts = [plan(nano, gpu="h100", concurrent=n).count for n in (1, 250, 500)]
    assert counts == [1, 1, 2]
    crowd = plan(nano, gpu="h100", concurrent=1_000_000)
    assert (crowd.count, crowd.fit < crowd.concurrent) == (1, True)


def test_without_a_wish_the_least_memory_that_computes_natively_is_chosen() -> None:
    found = {name: plan(weights(name)) for name in ("Nano-30B-A3B-FP8", "Super-120B-A12B-NVFP4")}
    assert found["Nano-30B-A3B-FP8"].gpu.name == "l40s"
    assert found["Super-120B-A12B-NVFP4"].gpu.name == "b200"
    assert {made.support for made in found.values()} == {"native"}


def refusal(name: str, **wish: object) -> str:
    with pytest.raises(BadModel) as caught:
        plan(weights(name), **wish)  # type: ignore[arg-type]
    return caught.value.message


def test_a_refusal_has_the_numbers_and_the_nearest_fit() -> None:
    small = refusal("Nano-30B-A3B-BF16", gpu="l4x1")
    assert "58.7" in small
    assert "22.0 GiB" in small
    assert "nearest fit is" in small
    assert "compute capability" in refusal("Nano-30B-A3B-FP8", gpu="t4")
    assert "slice" in refusal("Nano-4B-BF16", gpu="a100-2g.10gbx2")
    assert "32 attention heads" in refusal("Nano-30B-A3B-FP8", gpu="h100x3")
    assert "1,000,000 tokens at most" in refusal("Nano-30B-A3B-FP8", context_tokens=2_000_000)
    with pytest.raises(BadModel, match=r"machine of up to 8 GPUs.*smaller precision"):
        plan(weights("Ultra-550B-A55B-BF16").model_copy(update={"weights_bytes": 2 * 10**12}))


def test_gpus_are_spelled_with_or_without_their_number() -> None:
    assert find("H100x4") == (find("h100")[0], 4)
    assert find("rtx4090")[1] is None
    assert find("a100-80gb-1g.10gb")[0].partition == "1g.10gb"
    with pytest.raises(BadInput, match="h100x4"):
        find("h1000")


def test_precisions_are_native_emulated_or_refused() -> None:
    def kinds(precision: str) -> dict[str, str]:
        names = ("t4", "a100", "l4", "h100", "b200")
        return {name: support(precision, find(name)[0])[0] for name in names}  # type: ignore[arg-type]

    n, e, r = "native", "emulated", "refused"
    assert list(kinds("bf16").values()) == [e, n, n, n, n]
    assert list(kinds("fp8").values()) == [r, e, n, n, n]
    assert list(kinds("nvfp4").values()) == [e, e, e, e, n]
    assert list(kinds("mxfp4").values()) == [r, e, e, e, n]


def test_every_slice_is_one_that_flytekit_knows() -> None:
    from flytekit.extras import accelerators

    kinds = {"a100": accelerators.A100, "a100-80gb": accelerators.A100_80GB}
    for gpu in (one for one in GPUS if one.partition):
        kind = kinds[gpu.name.removesuffix(f"-{gpu.partition}")]
        known = getattr(kind, f"partition_{gpu.partition.replace('.', '_')}")
        assert known.to_flyte_idl().partition_size == gpu.partition
        assert known.to_flyte_idl().device == gpu.device


EXPLAINED = {
    ("NVIDIA-Nemotron-3.5-Lightning-30B-A3B", "nvfp4"),
    ("NVIDIA-Nemotron-3-Super-120B-A12B", "bf16"),
    ("NVIDIA-Nemotron-3-Super-120B-A12B", "fp8"),
    ("NVIDIA-Nemotron-3-Ultra-550B-A55B", "bf16"),
    ("NVIDIA-Nemotron-3-Nano-4B", "fp8"),
}
"""What `minimum_gb` explains in its docstring."""


def test_minima_agree_with_the_recipes_or_the_docstring_says_why_not() -> None:
    apart = {
        (model.name.partition("/")[2], precision)
        for model in OPEN_MODELS
        for precision, recipe_gb in model.recipe_gb.items()
        if abs(minimum_gb(weights(model.hub_id(precision))) / recipe_gb - 1) > 0.1
    }
    assert apart == EXPLAINED


def test_ten_times_the_sequences_is_true_of_long_contexts_only() -> None:
    def fits(name: str, context_tokens: int) -> int:
        model = weights(name, precision="fp8")
        made: Plan = plan(model, gpu="h100x1", concurrent=1, context_tokens=context_tokens)
        return made.fit

    nano, small, large = NEMOTRON + "Nano-30B-A3B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B"
    ratios = {
        n: (fits(nano, n) / fits(small, n), fits(nano, n) / fits(large, n))
        for n in (1024, 8192, 32_768)
    }
    assert ratios[1024][0] < 1
    assert ratios[8192][1] > 10 > ratios[8192][0]
    assert min(ratios[32_768]) > 10
