"""The right GPU, computed: `plan` chooses it, `layout` is vLLM's arithmetic of its cache.

`devices` has the GPUs and what they compute in, `memory` the cache, `needs` the estimates beside
it, `planning` the choice, `wanted` what the environment asks for.
"""

from nemoflows.gpus.devices import GPUS, Gpu, Support, find, support
from nemoflows.gpus.memory import Layout, layout
from nemoflows.gpus.needs import GIB, minimum_gb
from nemoflows.gpus.planning import CONCURRENT, CONTEXT_TOKENS, Plan, plan, splits
from nemoflows.gpus.wanted import planned

__all__ = [
    "CONCURRENT",
    "CONTEXT_TOKENS",
    "GIB",
    "GPUS",
    "Gpu",
    "Layout",
    "Plan",
    "Support",
    "find",
    "layout",
    "minimum_gb",
    "plan",
    "planned",
    "splits",
    "support",
]
