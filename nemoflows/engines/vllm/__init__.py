"""vLLM inside the process: `Vllm` is the engine; the other modules are its parts.

`fingerprint` tells what a model is, `adapters` finds LoRA adapters, `running` starts and stops one
engine, `translation` turns requests into vLLM's terms and its outputs into ours.
"""

from nemoflows.engines.vllm.engine import Vllm
from nemoflows.engines.vllm.fingerprint import installed, is_nemotron, weights_hash

__all__ = ["Vllm", "installed", "is_nemotron", "weights_hash"]
