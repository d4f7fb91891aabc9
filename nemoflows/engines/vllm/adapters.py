"""LoRA adapters: where one lies, what an engine needs to serve it, how a request names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemoflows.engines.vllm.fingerprint import weights_hash
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that an engine can be started for. Source: vLLM 0.32, vllm.config.lora.MaxLoRARanks."""
MAX_LORAS = 4
"""Adapters that one batch may mix. Source: chosen; each takes memory whether used or not."""
CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that lies in a local folder."""

    folder: Path
    rank: int
    """Its highest rank."""
    number: int
    """Id by which vLLM tells adapters apart: from the content, so the same in every engine."""

    def request(self) -> Any:
        """Return what vLLM wants to be told beside a prompt."""
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"adapter-{self.number}", self.number, str(self.folder))


def find(model: ModelRef, *, offline: bool) -> Adapter:
    """Return the adapter that a model's spelling names.

    Raises:
        BadModel: There is no such folder, or it holds no adapter.
    """
    folder = Path(model.lora).expanduser()
    if not folder.is_dir():
        folder = _from_hub(model, offline=offline)
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / name).is_file() for name in WEIGHTS):
        missing.append(WEIGHTS[0])
    if missing:
        raise BadModel(
            f"{str(model)!r} names the adapter {folder}, which is none: it lacks "
            f"{' and '.join(missing)}. Name the folder that PEFT's save_pretrained wrote."
        )
    number = int(hashlib.sha256(weights_hash(folder).encode()).hexdigest()[:7], 16) + 1
    return Adapter(folder, _rank(model, folder / CONFIG), number)


def engine_arguments(rank: int) -> dict[str, Any]:
    """Return the engine arguments that serving adapters up to a rank takes; none for rank 0."""
    if not rank:
        return {}
    room = next((known for known in RANKS if known >= rank), rank)
    return {"enable_lora": True, "max_lora_rank": room, "max_loras": MAX_LORAS}


def _rank(model: ModelRef, config: Path) -> int:
    try:
        read = json.loads(config.read_bytes())
        return max(int(read["r"]), *map(int, (read.get("rank_pattern") or {}).values()), 1)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadModel(
            f"{str(model)!r} names an adapter whose {config} gives no rank `r` "
            f"({type(error).__name__}: {error}). Name a LoRA adapter as PEFT writes it."
        ) from error


def _from_hub(model: ModelRef, *, offline: bool) -> Path:
    """Return the local copy of an adapter on the hub, downloaded where that is allowed."""
    if model.lora.startswith(("/", ".", "~")) or model.lora.count("/") != 1:
        raise BadModel(
            f"{str(model)!r} names the adapter {model.lora!r}, and there is no such folder. "
            "Mend the path, or name an adapter of the hub as owner/name."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.lora, local_files_only=offline))
    except (OSError, ValueError) as error:  # huggingface_hub's own are kinds of these
        raise BadModel(
            f"{str(model)!r} names the adapter {model.lora!r}, which is neither a folder nor "
            f"to be had from the hub{' (offline)' if offline else ''}: {type(error).__name__}."
        ) from error
