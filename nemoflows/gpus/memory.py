"""How vLLM lays out keys, values and states in a GPU's memory, and what fits into it.

One pool is cut into blocks of one size, shared by groups of layers of one kind. Where a model has
recurrent layers, a block must hold the state of one of them, so that a block takes thousands of
tokens, and a short request pays for all of it.
"""

from __future__ import annotations

from math import ceil

from nemoflows.models.geometry import Attention, Geometry, Recurrence
from nemoflows.types import Value

PAGES_CACHING = 3
"""States per sequence and group with prefix caching: two running, one at the prompt's end."""
MERGE_BELOW = 1.5
"""Kinds whose numbers of layers differ by less than this factor get groups of the larger size."""


class Layout(Value):
    """A pool's blocks, and how many a sequence takes."""

    block_tokens: int
    block_bytes: int
    token_bytes: int
    """Keys and values of one token, in the layers that keep every token."""
    state_bytes: int
    """State of one sequence, without what rounding adds."""
    full_groups: int
    window_groups: int
    window_tokens: int
    """Tokens that a window's group keeps: the window and what is under way."""
    states: int
    """Blocks for states that a sequence takes, however short it is."""

    def blocks(self, context_tokens: int) -> int:
        """Return the blocks that a sequence of a length takes."""
        full = self.full_groups * ceil(context_tokens / self.block_tokens)
        kept = min(self.window_tokens, context_tokens)
        window = self.window_groups * (ceil(kept / self.block_tokens) + 1)
        return full + window + self.states

    def sequences(self, pool_bytes: int, context_tokens: int) -> float:
        """Return how many sequences of a length a pool holds: vLLM's "maximum concurrency"."""
        return (pool_bytes // self.block_bytes) / self.blocks(context_tokens)

    def tokens(self, pool_bytes: int, context_tokens: int) -> int:
        """Return how many tokens a pool holds: vLLM's "KV cache size"."""
        return int(self.sequences(pool_bytes, context_tokens) * context_tokens)

    def sequence_bytes(self, context_tokens: int) -> int:
        """Return what a sequence of a length takes."""
        return self.blocks(context_tokens) * self.block_bytes


def layout(
    geometry: Geometry,
    *,
    cache_bytes: int = 2,
    tensor_parallel: int = 1,
    prefix_caching: bool = False,
    align_tokens: int = 16,
    in_flight_tokens: int = 8192,
) -> Layout:
    """Return the layout that vLLM gives a model's cache on each GPU.

    Source: vLLM 0.32's kv_cache_utils.py, kv_cache_interface.py, mamba_utils.py and
    `_align_hybrid_block_size` in platforms/interface.py. The tests compare it with the log of the
    real engine, on its CPU build; on CUDA it was never run.

    Args:
        geometry: The model.
        cache_bytes: Bytes per number in keys and values: 2, or 1 for FP8.
        tensor_parallel: GPUs that share the model. Heads of keys and values are split, and kept
            on several GPUs where there are fewer of them; recurrent heads are split.
        prefix_caching: Whether prefixes are kept for requests that share them.
        align_tokens: Least block: 16 on CUDA (FlashAttention), 128 on the CPU build.
        in_flight_tokens: Tokens per step, at most, times the steps that overlap.
    """
    attention = geometry.attention
    heads = max(1, attention.kv_heads // tensor_parallel)
    per_layer = 2 * heads * attention.head_dim * cache_bytes
    page = _page(geometry.recurrence, tensor_parallel)
    block_tokens = align_tokens * max(1, ceil(page / (align_tokens * per_layer)))
    size, (full, window, recurrent) = _groups(attention, geometry.recurrence)
    return Layout(
        block_tokens=block_tokens,
        block_bytes=block_tokens * per_layer * size,
        token_bytes=attention.layers * per_layer,
        state_bytes=(geometry.recurrence.layers if geometry.recurrence else 0) * page,
        full_groups=full,
        window_groups=window,
        window_tokens=max(0, attention.window_tokens - 1 + in_flight_tokens) if window else 0,
        states=recurrent * (PAGES_CACHING if prefix_caching else 1),
    )


def _page(recurrence: Recurrence | None, tensor_parallel: int) -> int:
    """Return the bytes of one layer's state: its convolution's last inputs in 2 bytes, its own."""
    if recurrence is None:
        return 0
    groups = recurrence.groups
    if groups % tensor_parallel:
        groups += tensor_parallel - groups  # every GPU keeps the groups that its heads need
    channels = recurrence.heads * recurrence.head_dim + 2 * groups * recurrence.state
    convolution = channels // tensor_parallel * (recurrence.kernel - 1) * 2
    numbers = recurrence.heads // tensor_parallel * recurrence.head_dim * recurrence.state
    return convolution + numbers * recurrence.state_bytes


def _groups(
    attention: Attention, recurrence: Recurrence | None
) -> tuple[int, tuple[int, int, int]]:
    """Return the layers per group, and the number of groups of each of the three kinds."""
    layers = (attention.layers, attention.window_layers, recurrence.layers if recurrence else 0)
    used = [n for n in layers if n]
    size = max(used) if max(used) < min(used) * MERGE_BELOW else min(used)
    full, window, recurrent = (ceil(n / size) for n in layers)
    return size, (full, window, recurrent)
