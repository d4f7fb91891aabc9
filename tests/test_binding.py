"""What registering asks of a cluster for each way of reaching the efficient model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.packages import (
    environment,
    gpus,
    limits,
    package,
    pod,
    pyflyte_package,
    secret_names,
)
from tests.support import run_command

ON_GPU = {"research", "extract", "summarise", "propose", "repair"}
"""The tasks that ask the efficient tier: importing one registers its whole module."""
ASK_FRONTIER = {"plan_research", "escalate", "synthesise", "answer", "shadow", "report"} | {
    "estimate_frontier",
    "plan_change",
    "escalate_change",
    "review",
    "solve_here",
    "solve_with_gpu",
    "judge_and_go_on",
}
NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"
SUPER = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B"
CLAUDE = {"NEMOFLOWS_FRONTIER": "anthropic:claude-opus-5-5", "NEMOFLOWS_OFFLINE": "0"}


def gib(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


@pytest.mark.parametrize(
    ("name", "gpu", "count", "device", "weights_gb"),
    [
        (f"{NANO}-FP8", "h100", 1, "nvidia-h100", 33),
        (f"{NANO}-BF16", "a100-80gb", 1, "nvidia-a100-80gb", 63),
        (f"{NANO}-NVFP4", "l4", 2, "nvidia-l4", 21),
        (f"{SUPER}-NVFP4", "b200", 1, "nvidia-b200", 75),
        (f"{SUPER}-FP8", "h100x4", 4, "nvidia-h100", 124),
        ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4", "h100", 8, "nvidia-h100", 352),
    ],
)
def test_a_model_in_the_task_gets_its_planned_gpu(
    name: str, gpu: str, count: int, device: str, weights_gb: int, tmp_path: Path
) -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{name}", "NEMOFLOWS_GPU": gpu, **CLAUDE}
    templates = package(tmp_path / "p", env)
    for task, template in templates.items():
        assert gpus(template) == (str(count) if task in ON_GPU else ""), task
    template = templates["research"]
    asked, more = limits(template), template.extended_resources
    assert more.gpu_accelerator.device == device
    assert gib(asked["MEMORY"]) >= 20
    assert gib(asked["EPHEMERAL_STORAGE"]) > weights_gb / 1.074
    assert gib(more.shared_memory.size_limit) == (4 if count == 1 else 16)
    arguments = json.loads(environment(template)["NEMOFLOWS_HARDWARE"])["engine_arguments"]
    assert arguments.get("tensor_parallel_size", 1) == count
    assert arguments["max_model_len"] == 32_768
    assert template.metadata.interruptible
    keys = {task: secret_names(template) for task, template in templates.items()}
    assert keys == {
        task: ["ANTHROPIC_API_KEY"] if task in ASK_FRONTIER else [] for task in templates
    }


def test_a_builtin_frontier_needs_no_secret_at_all(tmp_path: Path) -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8", "NEMOFLOWS_GPU": "h100"}
    templates = package(tmp_path / "p", env)
    assert gpus(templates["research"]) == "1"
    assert all(secret_names(template) == [] for template in templates.values())


def test_what_does_not_fit_is_refused_when_it_is_registered(tmp_path: Path) -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-BF16", "NEMOFLOWS_GPU": "l4x1"}
    done = pyflyte_package(tmp_path / "p", env)
    assert done.returncode != 0
    assert "does not fit 1x l4" in done.stdout
    assert "nearest fit" in done.stdout


POD = {
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "labels": {"team": "search"},
    "spot": False,
    "volume_claim": "models",
}


def test_placement_and_weights_follow_the_settings(tmp_path: Path) -> None:
    env = {
        "NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8",
        "NEMOFLOWS_GPU": "h100",
        "NEMOFLOWS_HARDWARE": json.dumps({"pod": POD, "weights": "/var/cache/nemoflows/nano"}),
        "NEMOFLOWS_SECRETS": '{"HF_TOKEN": "hub/token", "OPENAI_API_KEY": "nemoflows/openai"}',
    }
    templates = package(tmp_path / "p", env)
    template, own = templates["research"], pod(templates["research"])
    assert own["nodeSelector"] == {"pool": "gpu"}
    assert own["tolerations"] == POD["tolerations"]
    assert own["volumes"][0]["persistentVolumeClaim"]["claimName"] == "models"
    assert own["containers"][0]["volumeMounts"][0]["mountPath"] == "/var/cache/nemoflows"
    assert dict(template.k8s_pod.metadata.labels) == {"team": "search"}
    assert gpus(template) == "1"
    assert not template.metadata.interruptible
    assert secret_names(template) == ["HF_TOKEN"]
    found = environment(template)
    assert found["VLLM_CACHE_ROOT"].startswith("/var/cache/nemoflows/")
    arguments = json.loads(found["NEMOFLOWS_HARDWARE"])["engine_arguments"]
    assert arguments["model"] == "/var/cache/nemoflows/nano"
    assert all(not pod(other) for name, other in templates.items() if name not in ON_GPU)


@pytest.mark.parametrize(
    ("kind", "image", "path", "port"),
    [
        ("vllm", "", "/health", 8000),
        ("nim", "nvcr.io/nim/nvidia/nemotron-3-nano:1", "/v1/health/ready", 8000),
        ("ollama", "ollama/ollama:1", "/", 11_434),
    ],
)
def test_a_server_beside_the_task_has_the_gpu(
    kind: str, image: str, path: str, port: int, tmp_path: Path
) -> None:
    name = "nvidia/NVIDIA-Nemotron-3-Nano-4B-GGUF" if kind == "ollama" else f"{NANO}-FP8"
    env = {
        "NEMOFLOWS_EFFICIENT": f"sidecar:{name}",
        "NEMOFLOWS_HARDWARE": json.dumps({"server": kind} | ({"image": image} if image else {})),
        "NEMOFLOWS_GPU": "h100",
        "NEMOFLOWS_SECRETS": '{"NGC_API_KEY": "nvidia/ngc"}',
        **CLAUDE,
    }
    templates = package(tmp_path / "p", env)
    template = templates["research"]
    assert {gpus(one) for one in templates.values()} == {""}
    [server] = pod(template)["initContainers"]
    assert server["restartPolicy"] == "Always"
    assert server["image"] == image or server["image"].startswith("vllm/vllm-openai:v")
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert server["resources"]["requests"] == server["resources"]["limits"]
    assert gib(server["resources"]["limits"]["ephemeral-storage"]) > (3 if kind == "ollama" else 31)
    probe = server["startupProbe"]
    assert probe["httpGet"] == {"path": path, "port": port}
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 900
    assert {mount["mountPath"] for mount in server["volumeMounts"]} == {"/dev/shm"}
    assert secret_names(template) == []
    assert secret_names(templates["synthesise"]) == ["ANTHROPIC_API_KEY"]
    [key] = [pair for pair in server["env"] if pair["name"] == "NGC_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "nvidia", "key": "ngc"}
    told = json.loads(environment(template).get("NEMOFLOWS_HARDWARE", "{}"))
    assert told.get("server", "vllm") == kind


def test_an_endpoint_gets_its_key_and_no_gpu_anywhere(tmp_path: Path) -> None:
    far = {"far": {"dialect": "nim", "base_url": "https://models.internal/v1", "key_env": "FAR"}}
    env = {
        "NEMOFLOWS_EFFICIENT": "far:x",
        "NEMOFLOWS_ENDPOINTS": json.dumps(far),
        "NEMOFLOWS_SECRETS": '{"FAR": "team/far"}',
        **CLAUDE,
    }
    templates = package(tmp_path / "p", env)
    assert {gpus(template) for template in templates.values()} == {""}
    assert not any(pod(template) for template in templates.values())
    assert secret_names(templates["research"]) == ["FAR"]
    assert secret_names(templates["synthesise"]) == ["FAR", "ANTHROPIC_API_KEY"]
    assert secret_names(templates["build_index"]) == []
    [secret] = templates["research"].security_context.secrets
    assert (secret.group, secret.key) == ("team", "far")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"NEMOFLOWS_EFFICIENT": "vllm:/models/nano"}, "NEMOFLOWS_HARDWARE as `weights`"),
        ({"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8",
          "NEMOFLOWS_HARDWARE": '{"weights": "/home/me/nano"}'},
         "NEMOFLOWS_HARDWARE has '/home/me/nano' in `weights`"),
        ({"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8",
          "NEMOFLOWS_HARDWARE": '{"engine_arguments": {"hf_overrides": {"x": ["~/a"]}}}'},
         "NEMOFLOWS_HARDWARE has '~/a' in `engine_arguments`"),
        ({"NEMOFLOWS_EFFICIENT": "vllm-server:x"}, "sidecar:x"),
        ({"NEMOFLOWS_EFFICIENT": f"sidecar:{NANO}-FP8",
          "NEMOFLOWS_HARDWARE": '{"server": "nim"}'}, "`image` in NEMOFLOWS_HARDWARE"),
        ({"NEMOFLOWS_EFFICIENT": "sidecar:nobody/knows-it"}, "shape of 'nobody/knows-it'"),
    ],
)  # fmt: skip
def test_what_pods_could_not_reach_is_refused(
    env: dict[str, str], told: str, tmp_path: Path
) -> None:
    done = pyflyte_package(tmp_path / "p", env)
    assert done.returncode != 0
    assert told in " ".join(done.stdout.split())


def test_no_environment_has_a_loopback_address_or_a_path_of_this_machine(tmp_path: Path) -> None:
    near = {"near": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    env = {
        "NEMOFLOWS_EFFICIENT": f"sidecar:{NANO}-FP8",
        "NEMOFLOWS_ENDPOINTS": json.dumps(near),
        "NEMOFLOWS_JOURNAL": "/somewhere",
        "ANTHROPIC_API_KEY": "canary",
        **CLAUDE,
    }
    for template in package(tmp_path / "p", env).values():
        for value in environment(template).values():
            assert "127.0.0.1" not in value
            assert "localhost" not in value
            assert "/somewhere" not in value
            assert str(Path.home()) not in value
        assert "canary" not in str(template)


def test_an_unknown_shape_gets_the_gpus_that_are_named_and_a_warning(tmp_path: Path) -> None:
    env = {"NEMOFLOWS_EFFICIENT": "vllm:nobody/knows-it", "NEMOFLOWS_GPU": "h100x2"}
    templates = package(tmp_path / "p", env)
    assert gpus(templates["research"]) == "2"
    assert templates["research"].extended_resources.gpu_accelerator.device == "nvidia-h100"
    assert "shape of 'nobody/knows-it'" in pyflyte_package(tmp_path / "q", env).stdout


def test_a_remote_run_is_a_registration() -> None:
    done = run_command(
        "pyflyte", "run", "--remote", "workflows/rag.py", "answer_question",
        "--question", "Who?", "--corpus", "s3://bucket/docs",
        env={"NEMOFLOWS_EFFICIENT": "vllm-server:x"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "sidecar:x" in done.stdout


def test_a_slice_of_a_gpu_is_named_as_flyte_names_it(tmp_path: Path) -> None:
    env = {
        "NEMOFLOWS_EFFICIENT": "vllm:nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16",
        "NEMOFLOWS_GPU": "a100-80gb-3g.40gb",
    }
    found: Any = package(tmp_path / "p", env)["research"].extended_resources.gpu_accelerator
    assert (found.device, found.partition_size) == ("nvidia-a100-80gb", "3g.40gb")
