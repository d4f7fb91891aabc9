"""Keys that are Flyte secrets, also in local runs; models that run where the task does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest

from nemoflows.errors import NoGpu
from nemoflows.gpus import plan
from nemoflows.models.endpoints import SidecarKind
from nemoflows.models.hardware import Hardware
from nemoflows.models.weights import weights_of
from nemoflows.settings import Settings
from nemoflows.tasks import client, overrides
from nemoflows.tasks.flyte import secrets
from nemoflows.tasks.flyte.binding import Binding
from nemoflows.types import ModelRef, Policy
from tests.loopback import ModelServer
from tests.support import run_command

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def test_a_key_is_taken_from_its_secret_where_its_variable_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(secrets={"FAR_KEY": "team/far"})
    monkeypatch.delenv("FAR_KEY", raising=False)
    secrets.provide("FAR_KEY", settings)
    assert "FAR_KEY" not in os.environ
    monkeypatch.setenv("_FSEC_TEAM_FAR", "k1")
    monkeypatch.setenv("FAR_KEY", "")  # so that what is set below is undone
    secrets.provide("FAR_KEY", settings)
    assert os.environ["FAR_KEY"] == "k1"
    monkeypatch.setenv("_FSEC_TEAM_FAR", "k2")
    secrets.provide("FAR_KEY", settings)
    assert os.environ["FAR_KEY"] == "k1"


def test_a_local_run_finds_the_secret_that_flytekit_leaves_aside(
    corpus: Path, server: ModelServer
) -> None:
    done = run_command(
        "pyflyte", "run", "workflows/rag.py", "answer_question", "--question", "How long is it?",
        "--corpus", corpus,
        env={
            "NEMOFLOWS_ENDPOINTS": server.endpoints("far", key_env="FAR_KEY"),
            "NEMOFLOWS_FRONTIER": "far:tiny",
            "_FSEC_NEMOFLOWS_FAR_KEY": "from-flyte",
        },
    )  # fmt: skip
    assert server.requests, done.stdout
    assert set(server.authorizations) == {"Bearer from-flyte"}
    assert "from-flyte" not in done.stdout


def test_secrets_are_named_and_never_given() -> None:
    for wrong in ({"KEY": "sk-secret"}, {"a-key": "group/key"}, {"KEY": "a/b/c"}):
        with pytest.raises(ValueError, match="named, never given") as caught:
            Settings(secrets=wrong)
        assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "model", "efficient", "told"),
    [
        ("cpu", f"sidecar:{NANO}", True, "without a GPU"),
        ("gpu", f"sidecar:{NANO}", True, "registered with the efficient model builtin"),
        ("sidecar", f"vllm:{NANO}", True, "registered with the efficient model builtin"),
        ("sidecar", f"sidecar:{NANO}", False, "a CPU task always"),
    ],
)
def test_a_pod_refuses_a_model_that_was_not_bound_to_it(
    kind: Any, model: str, told: str, monkeypatch: pytest.MonkeyPatch, *, efficient: bool
) -> None:
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_ID", "e1")
    monkeypatch.setattr(client, "BINDING", Binding(Settings(), Policy(), kind))
    with pytest.raises(NoGpu, match=told):
        client.refuse_without_gpu(ModelRef.model_validate(model), "research", efficient=efficient)


def test_a_pod_takes_the_model_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelRef.model_validate(f"sidecar:{NANO}")
    client.refuse_without_gpu(model, "research", efficient=True)  # here: a server of your own
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_ID", "e1")
    monkeypatch.setattr(client, "BINDING", Binding(Settings(), Policy(), "sidecar"))
    client.refuse_without_gpu(model, "research", efficient=True)


def test_the_endpoint_sidecar_is_the_server_that_the_settings_name() -> None:
    model = ModelRef.model_validate(f"sidecar:{NANO}")
    found = {
        kind: Settings(hardware=Hardware(server=kind)).endpoint(model)
        for kind in get_args(SidecarKind)
    }
    assert [one.dialect for one in found.values()] == ["vllm-server", "nim", "compatible"]
    assert found["ollama"].base_url.endswith(":11434/v1")
    assert {one.key_env for one in found.values()} == {""}


def test_a_plan_overrides_a_node() -> None:
    weights = weights_of(NANO)
    assert weights is not None
    changed = overrides(plan(weights, gpu="h200"))
    assert changed["requests"] == changed["limits"]
    assert (changed["requests"].gpu, changed["shared_memory"]) == ("1", "4Gi")
    assert changed["accelerator"].to_flyte_idl().device == "nvidia-h200"
