"""What an engine and its container need besides the cache, estimated.

What the CUDA runtime, its graphs and activations take was never measured here; `benchmarks/gpu.py`
measures it where there is a GPU.
"""

from __future__ import annotations

from math import ceil

from nemoflows.gpus.devices import Gpu
from nemoflows.gpus.memory import layout
from nemoflows.models.geometry import Geometry
from nemoflows.models.weights import Weights
from nemoflows.types import Value

GIB = 2**30
UTILISATION = 0.92
"""Share of a GPU's memory that the engine takes. Source: vLLM 0.32's default."""
STEP_TOKENS = 8192
"""Tokens per step of the engine, at most. Source: vLLM 0.32's default on 70 GiB and more."""
CUDA_BYTES = int(1.6 * GIB)
"""CUDA's context, its libraries' workspaces and captured graphs.

Source: an estimate from vLLM's start-up logs in public reports; never measured here.
"""
NCCL_BYTES = int(0.5 * GIB)
"""Buffers for talking to the other GPUs. Source: as above."""
MAX_SEQUENCES = 1024
"""Requests in one step, at most. Source: vLLM's recipes go up to it."""


class Memory(Value):
    """What each GPU's memory goes to, in bytes."""

    weights: int
    activations: int
    """Intermediate results of one step, and the logits of its requests."""
    cuda: int
    """CUDA's context, graphs, and buffers between GPUs."""
    cache: int
    """What is left for keys, values and states; negative where nothing is."""
    spare: int
    """What the engine leaves alone."""


class Host(Value):
    """What the task's container needs beside GPUs."""

    cpus: int
    memory_gib: int
    shared_memory_gib: int
    ephemeral_storage_gib: int


def minimum_gb(model: Weights, *, context_tokens: int = 4096) -> float:
    """Return the memory in GB, on one GPU, that a model needs for one short request.

    vLLM's recipes give such minima, most of them as the weights times 1.2 or the bare weights.
    Ours agree within 10 % for Nano in BF16 (72) and FP8 (35), Lightning in BF16 (72), Super in
    NVFP4 (75), Ultra in NVFP4 (330, less than the published weights of 352.3) and Nano 4B in BF16
    (10). Where the recipe takes the weights times 1.2, one request needs less: Super in BF16 and
    FP8 (298, 149; ours are 15 and 14 % below), Ultra in BF16 (1,320; 15 % below). Where it gives
    the bare weights, an engine needs more: Lightning in NVFP4 (18; ours is 14 % above) and Nano 4B
    in FP8 (5; 48 % above, as 2.4 GB of CUDA and activations weigh more the smaller the model).

    Source of the recipes' figures: vllm-project/recipes at 8959cf6.
    """
    shape = layout(model.geometry)
    working = _activations(model.geometry, 1, 1) + CUDA_BYTES
    return (model.weights_bytes + working + shape.sequence_bytes(context_tokens)) / 1e9


def memory_of(model: Weights, gpu: Gpu, count: int, concurrent: int) -> Memory:
    """Return what each GPU's memory goes to, for `sequences` requests in one step."""
    weights = ceil(model.weights_bytes / count)
    activations = _activations(model.geometry, count, min(concurrent, MAX_SEQUENCES))
    cuda = CUDA_BYTES + (NCCL_BYTES if count > 1 else 0)
    taken = int(gpu.memory_bytes * UTILISATION)
    return Memory(
        weights=weights,
        activations=activations,
        cuda=cuda,
        cache=taken - weights - activations - cuda,
        spare=gpu.memory_bytes - taken,
    )


def _activations(geometry: Geometry, count: int, n_sequences: int) -> int:
    """Return an estimate of what one full step takes on each GPU.

    Four rows of the hidden width per token, the widest layer's inner results in 2 bytes, and the
    logits of every request three times in 4 bytes, as the sampler copies and sorts them.
    """
    inner = [geometry.mlp_width * (2 if geometry.gated else 1)]
    if geometry.recurrence is not None:
        own = geometry.recurrence
        inner.append(2 * own.heads * own.head_dim + 2 * own.groups * own.state)
    widest = max(inner) / count
    if geometry.experts is not None:
        routed = geometry.experts
        passed = routed.width * (3 if geometry.gated else 2) / count
        widest = max(widest, routed.n_active * (passed + (routed.latent or geometry.hidden)))
    step = STEP_TOKENS * 2 * (4 * geometry.hidden + widest)
    return int(step + n_sequences * geometry.vocabulary / count * 4 * 3)


def host_of(model: Weights, count: int) -> Host:
    """Return what the container needs beside GPUs.

    Weights pass through the page cache, which counts as the container's memory and can be taken
    back: a quarter of them is enough. Shared memory is where the engine's processes, and NCCL,
    exchange data; Kubernetes gives 64 MiB otherwise.

    Source: 16 GiB of shared memory for several GPUs as in NVIDIA's NIM; a process of the engine
    takes about 2 GiB and two CPUs; the rest is chosen.
    """
    weights_gib = model.weights_bytes / GIB
    shared = 16 if count > 1 else 4
    return Host(
        cpus=4 + 2 * (count - 1),
        memory_gib=_up(12 + 4 * count + shared + weights_gib / 4, 4),
        shared_memory_gib=shared,
        ephemeral_storage_gib=_up(20 + weights_gib * 1.1, 10),
    )


def _up(value: float, step: int) -> int:
    return step * ceil(value / step)
