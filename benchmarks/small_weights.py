"""The small model's weights as vLLM loads them into a process: safetensors, made from the GGUF.

    .venv-vllm/bin/python -m pip install gguf accelerate
    .venv-vllm/bin/python benchmarks/small_weights.py .venv-models/model.gguf FOLDER

`vllm:FOLDER` is then a model like any other, on the CPU build with

    NEMOFLOWS_HARDWARE='{"engine_arguments": {"dtype": "bfloat16", "enforce_eager": true,
                         "max_model_len": 4096, "max_num_seqs": 8}}' VLLM_CPU_KVCACHE_SPACE=1
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Write the weights of a GGUF file and its tokeniser into a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **where)
    # The mark of what the file's weights were packed with, which those that are saved are not.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **where).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
