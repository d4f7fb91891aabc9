"""GPUs: how much memory an engine finds on each, and which precisions it computes in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from nemoflows.errors import BadInput
from nemoflows.models.catalogue import Precision
from nemoflows.types import Value

Support = Literal["native", "emulated", "refused"]
"""Whether a GPU computes in a precision, unpacks it to a wider one first, or cannot take it."""


class Gpu(Value):
    """A GPU, or a slice of one."""

    name: str
    """As NEMOFLOWS_GPU spells it."""
    device: str
    """As Flyte and the label of a node pool spell it."""
    partition: str = ""
    """Profile of a MIG slice; empty for a whole GPU."""
    memory_gib: float
    """Memory that CUDA reports, which is what an engine's share is taken of."""
    capability: int
    """CUDA compute capability, times ten."""
    offered: bool = True
    """Whether the planner may choose it by itself: what clouds rent as a whole."""

    @property
    def memory_bytes(self) -> int:
        """Return the memory in bytes."""
        return int(self.memory_gib * 2**30)


def _slice(of: str, profile: str, memory_gib: float) -> Gpu:
    device = "nvidia-tesla-a100" if of == "a100" else "nvidia-a100-80gb"
    return Gpu(
        name=f"{of}-{profile}",
        device=device,
        partition=profile,
        memory_gib=memory_gib,
        capability=80,
        offered=False,
    )


GPUS = (
    Gpu(name="t4", device="nvidia-tesla-t4", memory_gib=14.56, capability=75),
    Gpu(name="l4", device="nvidia-l4", memory_gib=22.03, capability=89),
    Gpu(name="a10g", device="nvidia-a10g", memory_gib=22.06, capability=86),
    Gpu(
        name="rtx4090",
        device="nvidia-geforce-rtx-4090",
        memory_gib=23.64,
        capability=89,
        offered=False,
    ),
    Gpu(name="a100", device="nvidia-tesla-a100", memory_gib=39.39, capability=80),
    Gpu(name="l40s", device="nvidia-l40s", memory_gib=44.39, capability=89),
    Gpu(name="h100", device="nvidia-h100", memory_gib=79.1, capability=90),
    Gpu(name="a100-80gb", device="nvidia-a100-80gb", memory_gib=79.14, capability=80),
    Gpu(name="h200", device="nvidia-h200", memory_gib=139.72, capability=90),
    Gpu(name="b200", device="nvidia-b200", memory_gib=178.35, capability=100),
    _slice("a100", "1g.5gb", 4.75),
    _slice("a100", "2g.10gb", 9.75),
    _slice("a100", "3g.20gb", 19.62),
    _slice("a100", "4g.20gb", 19.62),
    _slice("a100", "7g.40gb", 39.39),
    _slice("a100-80gb", "1g.10gb", 9.5),
    _slice("a100-80gb", "2g.20gb", 19.5),
    _slice("a100-80gb", "3g.40gb", 39.25),
    _slice("a100-80gb", "4g.40gb", 39.25),
    _slice("a100-80gb", "7g.80gb", 78.75),
)
"""GPUs that vLLM 0.32 runs on, whole ones by memory.

Memory is the total that PyTorch names when it runs out of it, in public reports of each card read
in November 2026; of several the least (error correction and drivers take their part). Slices have
what `nvidia-smi mig -lgip` lists in NVIDIA's MIG guide. Device names are those of flytekit 1.16's
accelerators; it has none for the RTX 4090 and B200, which NVIDIA's own scheme of names gives, and
which a node pool must carry as the label of its GPU.
"""

_NATIVE_FROM: Mapping[Precision, int] = {"bf16": 80, "fp8": 89, "nvfp4": 100, "mxfp4": 100}
_RUNS_FROM: Mapping[Precision, int] = {"bf16": 75, "fp8": 75, "nvfp4": 75, "mxfp4": 80}
_WIDENED: Mapping[Precision, str] = {
    "bf16": "as float16, whose range is smaller: check your answers",
    "fp8": "unpacked to 16 bits by the Marlin kernels: the memory is saved, the speed is not",
    "nvfp4": "unpacked to 16 bits by the Marlin kernels: the memory is saved, the speed is not",
    "mxfp4": "unpacked to 16 bits by the Marlin or Triton kernels",
}
FP8_CACHE_FROM = 89
"""Capability from which we keep keys and values in FP8.

Source: Ada and Hopper compute in it; vLLM 0.32 can emulate it on some older GPUs, which we do not.
"""


def support(precision: Precision, gpu: Gpu) -> tuple[Support, str]:
    """Return how a GPU takes a precision, and what that means where it is not native.

    Source: NVIDIA's capability tables for native types, and in vLLM 0.32 `get_min_capability` of
    modelopt.py (FP8 80, NVFP4 75), fp8.py (75) and mxfp4.py (80), with the Marlin kernels from 75.
    Nemotron's FP8 is modelopt's, so that a T4 is refused it.
    """
    if precision == "gguf":
        return "native", "for llama.cpp and Ollama; vLLM does not read it well"
    least = 80 if precision == "fp8" else _RUNS_FROM[precision]
    if gpu.capability < least:
        return (
            "refused",
            f"vLLM needs compute capability {least / 10}, it has {gpu.capability / 10}",
        )
    if gpu.capability < _NATIVE_FROM[precision]:
        return "emulated", _WIDENED[precision]
    return "native", ""


def find(spelling: str) -> tuple[Gpu, int | None]:
    """Return a GPU and a number of them, spelled `h100` or `h100x4`.

    Raises:
        BadInput: No such GPU.
    """
    known = {gpu.name: gpu for gpu in GPUS}
    text = spelling.strip().lower()
    split = re.fullmatch(r"(.+?)x([1-9]\d*)", text)
    if text in known:
        return known[text], None
    if split and split[1] in known:
        return known[split[1]], int(split[2])
    raise BadInput(
        f"No GPU is called {spelling!r}. Known: {', '.join(known)}; four of one are h100x4."
    )
