"""Embedders in this process, through sentence-transformers: free, local.

A model is a hub id or a local path. A hub id is looked up in the local cache first, so that a
machine without network works once the model is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemoflows.calls import Outcome, Request, Unanswered
from nemoflows.engines.base import Engine, OnAttempt, Vectors
from nemoflows.errors import BadModel
from nemoflows.storage.loading import load_lazy_modules
from nemoflows.types import ModelRef

BATCH_SIZE = 32
"""Texts per forward pass, of about equal length. On two cores 32 and 128 take the same time."""

_DESCRIBING = ("*.json", "*.txt", "*.safetensors", "*.bin")


class Dense(Engine):
    """Local embedding; loads a model at its first use and keeps it."""

    wire_version = "dense-1"
    paid = False
    generates = False

    def __init__(self, *, offline: bool = False) -> None:
        self._offline = offline
        self._models: dict[ModelRef, Any] = {}
        self._lock = threading.Lock()
        """Models are not safe to load or run from two threads at once."""

    def model_fingerprint(self, model: ModelRef) -> str:
        """Return the spelling, or for a local path the hash of its small files and weight sizes."""
        folder = Path(model.name).expanduser()
        if not folder.is_dir():
            return str(model)
        files = sorted({path for pattern in _DESCRIBING for path in folder.rglob(pattern)})
        content = hashlib.sha256()
        for path in files:
            name = path.relative_to(folder).as_posix()
            content.update(f"{name}\n{path.stat().st_size}\n".encode())
            if path.suffix == ".json":
                content.update(path.read_bytes())
        return f"{model.endpoint}:sha256-{content.hexdigest()}"

    async def preflight(self, model: ModelRef) -> None:
        """Check that the extra is installed and that a local path is there.

        Raises:
            BadModel: Otherwise.
        """
        _check(model)

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:  # noqa: ARG002
        """Refuse: an embedder does not write."""
        return Unanswered(
            reason="rejected",
            detail=f"{request.model} embeds; it does not write. Name another model for the tier.",
            transient=False,
        )

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Return a unit vector per text, with the model's own prompt for queries or passages.

        Raises:
            BadModel: The extra is missing or the model cannot be loaded.
        """
        return await asyncio.to_thread(self.embed_now, model, texts, query=query)

    def embed_now(self, model: ModelRef, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """Do what `embed` does in the calling thread."""
        with self._lock:
            encoder = self._load(model)
            if not texts:
                return np.empty((0, encoder.get_embedding_dimension()), np.float32)
            encode: Callable[..., Any] = encoder.encode_query if query else encoder.encode_document
            vectors = encode(
                list(texts),
                batch_size=BATCH_SIZE,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(vectors, dtype=np.float32)

    async def aclose(self) -> None:
        """Forget the models."""
        self._models.clear()

    def _load(self, model: ModelRef) -> Any:
        if model not in self._models:
            _check(model)
            load_lazy_modules()
            self._models[model] = _first_that_loads(model, offline=self._offline)
        return self._models[model]


def _check(model: ModelRef) -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise BadModel(
            f"{str(model)!r} runs through sentence-transformers, which is not installed: "
            "pip install 'nemoflows[dense]'"
        )
    if (
        model.name.startswith(("/", "./", "../", "~"))
        and not Path(model.name).expanduser().is_dir()
    ):
        raise BadModel(f"{str(model)!r} names a folder that is not there. Mend the path.")


def _first_that_loads(model: ModelRef, *, offline: bool) -> Any:
    """Load from the local cache, else from the hub unless `offline`."""
    from sentence_transformers import SentenceTransformer

    name = str(Path(model.name).expanduser()) if model.name.startswith("~") else model.name
    places = (True,) if offline or Path(name).is_dir() else (True, False)
    for local_only in places:
        try:
            return SentenceTransformer(
                name, revision=model.revision or None, local_files_only=local_only
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            failure = error
    raise BadModel(
        f"{str(model)!r} cannot be loaded{' from the local cache' if offline else ''}: "
        f"{type(failure).__name__}: {str(failure)[:300]}. Name a sentence-transformers model: its "
        "hub id, or the path of a local copy."
    ) from failure
