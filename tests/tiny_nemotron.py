"""A tiny Nemotron-H with random weights, made in seconds: the real architecture, dense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}"
)
ENDS = ("</s>", "<|im_end|>", "</think>")
"""Tokens whose logit is always 0, where the largest of 2,000 random ones never is: at temperature
0 the model ends neither its thinking nor its reply by itself, only where a budget, a schema, a
stop or a limit ends it."""
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def make(folder: Path, *, seed: int = 0) -> Path:
    """Write configuration, weights and tokeniser into `folder` and return it."""
    import torch
    from transformers import NemotronHConfig, NemotronHForCausalLM

    tokeniser = make_tokeniser()
    tokeniser.save_pretrained(folder)
    torch.manual_seed(seed)
    config = NemotronHConfig(
        hybrid_override_pattern="M-*-",
        hidden_size=128,
        intermediate_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        mamba_num_heads=8,
        mamba_head_dim=32,
        ssm_state_size=16,
        n_groups=1,
        max_position_embeddings=8192,
        vocab_size=max(2048, len(tokeniser)),
        bos_token_id=tokeniser.convert_tokens_to_ids("<s>"),
        eos_token_id=tokeniser.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokeniser.convert_tokens_to_ids("</s>"),
    )
    model = NemotronHForCausalLM(config)
    with torch.no_grad():
        for token in ENDS:
            model.lm_head.weight[tokeniser.convert_tokens_to_ids(token)] = 0
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_adapter(
    folder: Path, *, base: Path, modules: set[str], rank: int = 4, seed: int = 1
) -> Path:
    """Write a LoRA adapter with random weights for some modules of `base`, as PEFT lays it out."""
    import torch
    from safetensors.torch import safe_open, save_file

    torch.manual_seed(seed)
    tensors = {}
    with safe_open(base / "model.safetensors", "pt") as weights:
        for key in weights.keys():  # noqa: SIM118  (no mapping)
            name = key.removesuffix(".weight")
            if name.rsplit(".", 1)[-1] in modules:
                n_out, n_in = weights.get_slice(key).get_shape()
                place = f"base_model.model.{name}"
                tensors[f"{place}.lora_A.weight"] = torch.randn(rank, n_in)
                tensors[f"{place}.lora_B.weight"] = torch.randn(n_out, rank)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [*modules]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def make_tokeniser() -> Any:
    """Return a byte-level tokeniser trained on this file."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    text = Path(__file__).read_text() + json.dumps(SPECIAL)
    trained.train_from_iterator([text] * 4, vocab_size=1024, special_tokens=SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="</s>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=TEMPLATE,
    )
