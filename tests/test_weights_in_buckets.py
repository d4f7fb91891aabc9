"""Weights in a bucket are opened as Flyte opens its own store, by a task or a server beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import s3fs

from nemoflows.engines.vllm.bucket import at_hand
from nemoflows.errors import BadModel, CorpusError
from nemoflows.gpus import plan
from nemoflows.models.hardware import Hardware
from nemoflows.models.weights import weights_of
from nemoflows.settings import Settings
from nemoflows.tasks.flyte import sidecar
from nemoflows.types import ModelRef
from tests.test_places import sandbox

__all__ = ["sandbox"]  # the fixture

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def test_a_task_copies_them_once_and_again_when_they_have_changed(
    sandbox: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "volume"))
    files = {"config.json": b"{}", "model.safetensors": b"a" * 100, "tokens/vocab.json": b"[]"}
    for name, content in files.items():
        sandbox.pipe(f"bucket/nano/{name}", content)
    folder = Path(at_hand("s3://bucket/nano/"))
    assert tmp_path / "volume" in folder.parents
    copied = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert copied == files
    (folder / "model.safetensors").write_bytes(b"kept")
    assert Path(at_hand("s3://bucket/nano/")) == folder
    assert (folder / "model.safetensors").read_bytes() == b"kept"
    sandbox.pipe("bucket/nano/model.safetensors", b"b" * 100)
    other = Path(at_hand("s3://bucket/nano/"))
    assert (other / "model.safetensors").read_bytes() == b"b" * 100


def test_what_is_no_model_or_may_not_be_read_is_told(
    sandbox: s3fs.S3FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox.exists("bucket/docs")
    assert at_hand(NANO) == NANO
    assert at_hand("/var/cache/nemoflows/nano") == "/var/cache/nemoflows/nano"
    with pytest.raises(BadModel, match=r"s3://bucket/docs has no config\.json"):
        at_hand("s3://bucket/docs")
    monkeypatch.delenv("FLYTE_AWS_ACCESS_KEY_ID")
    with pytest.raises(CorpusError, match=r"FLYTE_AWS_ACCESS_KEY_ID \(not set\)"):
        at_hand("s3://bucket/nano")


@pytest.mark.parametrize("is_told", [True, False])
def test_a_server_is_handed_what_flyte_opens_its_store_with(is_told: bool) -> None:
    weights = weights_of(NANO)
    assert weights is not None
    settings = Settings(hardware=Hardware(weights="s3://bucket/nano"))
    model = ModelRef(endpoint="sidecar", name=NANO)
    server = sidecar.with_server(settings, model, plan(weights, gpu="h100")).pod_spec
    [container] = server.init_containers
    opening, flags = container.command[:4], container.args
    assert container.command[4:] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    assert flags[flags.index("--load-format") + 1] == "runai_streamer"
    flyte = {
        "FLYTE_AWS_ENDPOINT": "http://minio:9000",
        "FLYTE_AWS_ACCESS_KEY_ID": "minio",
        "FLYTE_AWS_SECRET_ACCESS_KEY": "miniostorage",
    }
    env = {"PATH": "/usr/bin:/bin", "AWS_PROFILE": "own"} | (flyte if is_told else {})
    done = subprocess.run(
        [*opening, "env"], env=env, capture_output=True, text=True, timeout=240, check=True
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    told = {name: found.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID")}
    assert list(told.values()) == (["http://minio:9000", "minio"] if is_told else [None, None])
    assert found["AWS_PROFILE"] == "own"
