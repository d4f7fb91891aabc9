"""The manifest of a warm engine is Kubernetes' own, and its numbers are the plan's."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from nemoflows.cli.main import main
from tests.support import run_command

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def manifest(*words: str, env: dict[str, str] | None = None) -> tuple[str, dict[str, Any]]:
    done = CliRunner().invoke(main, ["manifest", *words], env=env)
    assert done.exit_code == 0, done.output
    return done.output, {one["kind"]: one for one in yaml.safe_load_all(done.output)}


PAIRS = [
    (NANO, "h100"), (NANO, "l40s"), (NANO, "h200"), (NANO, "b200"), (NANO, "l4x4"),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "h100x2"),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "a100-80gb"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", "h100x4"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", "h200x2"),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", "b200"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "gpu"), PAIRS)
def test_it_is_valid_and_has_what_the_plan_says(model: str, gpu: str) -> None:
    text, found = manifest("--model", model, "--gpu", gpu)
    assert set(found) == {"PersistentVolumeClaim", "Deployment", "Service", "PodDisruptionBudget"}
    for one in found.values():
        kubernetes_validate.validate(one, "1.33", strict=True)
    pod = found["Deployment"]["spec"]["template"]
    [server] = pod["spec"]["containers"]
    count = gpu.rpartition("x")[2] if re.search(r"x\d$", gpu) else "1"
    assert server["resources"]["limits"]["nvidia.com/gpu"] == count
    assert ("--tensor-parallel-size" in server["args"]) == (count != "1")
    assert server["args"][server["args"].index("--model") + 1] == model
    assert server["startupProbe"]["failureThreshold"] * 10 > 900
    assert found["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    endpoints = json.loads(re.findall(r"NEMOFLOWS_ENDPOINTS='(.*)'", text)[0])
    [(name, endpoint)] = endpoints.items()
    assert endpoint["base_url"].startswith(f"http://{found['Service']['metadata']['name']}.")
    assert f"NEMOFLOWS_EFFICIENT={name}:{model}" in text


def test_pods_are_placed_as_the_settings_say() -> None:
    pod = {"node_selector": {"pool": "h"}, "labels": {"team": "a"}, "image_pull_secret": "ngc"}
    hardware = {"pod": pod, "engine_arguments": {"seed": 7}, "image": "mine:1"}
    env = {"NEMOFLOWS_HARDWARE": json.dumps(hardware), "NEMOFLOWS_EFFICIENT": f"vllm:{NANO}"}
    _, found = manifest("--gpu", "h100", "--name", "warm", "--namespace", "ml", env=env)
    for one in found.values():
        kubernetes_validate.validate(one, "1.33", strict=True)
        assert one["metadata"]["namespace"] == "ml"
    template = found["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["spec"]["nodeSelector"] == {"pool": "h"}
    [server] = template["spec"]["containers"]
    assert server["image"] == "mine:1"
    assert server["args"][server["args"].index("--seed") + 1] == "7"


def test_the_command_writes_a_file_that_kubectl_takes() -> None:
    done = run_command("nemoflows", "manifest", "--model", NANO, "--gpu", "h100")
    assert [one["kind"] for one in yaml.safe_load_all(done.stdout)][1] == "Deployment"


def test_what_does_not_fit_is_refused_with_the_nearest_fit() -> None:
    done = CliRunner().invoke(main, ["manifest", "--model", NANO, "--gpu", "t4"])
    assert done.exit_code == 1
    assert "cannot run on t4" in done.output
