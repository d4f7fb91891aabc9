"""Pods are what Kubernetes' API takes, by the oldest and the newest client that we allow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.packages import package, pod
from tests.support import ROOT

pytestmark = pytest.mark.packages
NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
POD: dict[str, Any] = {
    "node_selector": {"pool": "gpu"}, "labels": {"team": "search"}, "annotations": {"a": "b"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "volume_claim": "models", "image_pull_secret": "nvcr",
}  # fmt: skip


def binding(model: str, **hardware: object) -> dict[str, str]:
    return {
        "NEMOFLOWS_EFFICIENT": model,
        "NEMOFLOWS_GPU": "h100x2",
        "NEMOFLOWS_HARDWARE": json.dumps({"pod": POD, **hardware}),
        "NEMOFLOWS_SECRETS": '{"HF_TOKEN": "a/b"}',
    }


GGUF = "sidecar:nvidia/NVIDIA-Nemotron-3-Nano-4B-GGUF"
BINDINGS = {
    "in process": binding(f"vllm:{NANO}"),
    "vllm": binding(f"sidecar:{NANO}"),
    "nim": binding(f"sidecar:{NANO}", server="nim", image="nvcr.io/nim/nvidia/x:1"),
    "ollama": binding(GGUF, server="ollama", image="ollama/ollama:1"),
}


@pytest.fixture(scope="module", params=["32.0.1", "37.0.1"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a client of one version, to be put before the environment's own."""
    folder = tmp_path_factory.mktemp("client")
    command = ["-m", "uv", "pip", "install", "-q", "--target", str(folder)]
    done = subprocess.run(
        [sys.executable, *command, f"kubernetes=={request.param}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder


def read_again(client: Path, specs: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "pod_specs.py")],
        input=json.dumps(specs),
        env={**os.environ, "PYTHONPATH": str(client)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_pod_is_one_of_the_api(client: Path, tmp_path: Path) -> None:
    path = f"{client}:{ROOT}"
    specs: dict[str, Any] = {}
    for name, env in BINDINGS.items():
        templates = package(tmp_path / name, {"PYTHONPATH": path, **env})
        specs |= {f"{name}: {task}": pod(one) for task, one in templates.items() if pod(one)}
    assert len(specs) == 5 * len(BINDINGS)
    done = read_again(client, specs)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] in str(next(client.glob("kubernetes-*.dist-info")))
    assert found["specs"] == specs


def test_pods_of_tests_are_alone(client: Path, tmp_path: Path) -> None:
    alone_please = json.dumps({"pod": {"isolate_tests": True}})
    env = {"PYTHONPATH": f"{client}:{ROOT}", "NEMOFLOWS_HARDWARE": alone_please}
    templates = package(tmp_path / "alone", env)
    alone = {name: one for name, one in templates.items() if pod(one)}
    assert set(alone) == {"examine", "search_repair", "run_tests", "select"}
    policy = (ROOT / "examples" / "test_pods.yaml").read_text()
    for one in alone.values():
        assert pod(one)["automountServiceAccountToken"] is False
        [(label, value)] = one.k8s_pod.metadata.labels.items()
        assert f'{label}: "{value}"' in policy
    specs = {name: pod(one) for name, one in alone.items()}
    done = read_again(client, specs)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["specs"] == specs


def test_a_specification_that_is_none_is_found(client: Path) -> None:
    whole = {"containers": [{"name": "primary"}]}
    odd = {"odd": whole | {"nodeselector": {"a": "b"}}}
    done = read_again(client, odd)
    assert done.returncode != 0 or json.loads(done.stdout)["specs"] != odd
    assert read_again(client, {"nameless": {"containers": [{}]}}).returncode != 0
