"""The manifest of a warm engine is Kubernetes' own, and its numbers are the plan's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from nemoflows.cli.main import main
from tests.support import run_command
from tests.test_weights import NANO_4B

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


SGLANG = {
    "--context-length": "32768", "--max-running-requests": "32", "--chunked-prefill-size": "8192",
    "--kv-cache-dtype": "fp8_e4m3", "--reasoning-parser": "nemotron_3",
    "--tool-call-parser": "qwen3_coder", "--grammar-backend": "llguidance", "--port": "30000",
}  # fmt: skip
BARE = {
    "--disable-radix-cache", "--enable-cache-report", "--constrained-json-disable-any-whitespace",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["sglang", "nim"])
@pytest.mark.parametrize(("model", "gpu"), PAIRS)
def test_other_servers_are_valid_too(model: str, gpu: str, kind: str) -> None:
    text, found = manifest("--model", model, "--gpu", gpu, "--server", kind)
    for one in found.values():
        kubernetes_validate.validate(one, "1.33", strict=True)
    [(_, endpoint)] = json.loads(re.findall(r"NEMOFLOWS_ENDPOINTS='(.*)'", text)[0]).items()
    [port] = found["Service"]["spec"]["ports"]
    assert endpoint["dialect"] == kind
    assert endpoint["base_url"].endswith(f":{port['port']}/v1")
    [server] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["ports"] == [{"name": "http", "containerPort": port["port"]}]


def test_sglang_is_told_the_plan_in_its_own_words() -> None:
    hardware = {"engine_arguments": {"seed": 7, "max_loras": 5, "kv_cache_dtype": "auto"}}
    _, found = manifest("--model", NANO, "--gpu", "h100x2", "--server", "sglang")
    [server] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    args, bare = dict(zip(server["args"], server["args"][1:], strict=False)), set(server["args"])
    assert SGLANG.items() <= args.items()
    assert bare >= BARE
    assert args["--tensor-parallel-size"] == "2"
    assert 0.8 < float(args["--mem-fraction-static"]) < 0.92, "without activations and CUDA"
    text, found = manifest(
        "--model", NANO, "--gpu", "h100", "--server", "sglang",
        env={"NEMOFLOWS_HARDWARE": json.dumps(hardware)},
    )  # fmt: skip
    assert "# SGLang has no counterpart that is known here: max_loras=5\n" in text
    assert "kv_cache_dtype='auto'" in text
    [server] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert server["args"][server["args"].index("--random-seed") + 1] == "7"


def test_a_nim_is_told_by_variables() -> None:
    secrets = {"HF_TOKEN": "team/hub", "NGC_API_KEY": "team/ngc"}
    text, found = manifest(
        "--model", NANO, "--gpu", "h100", "--server", "nim",
        env={"NEMOFLOWS_SECRETS": json.dumps(secrets)},
    )  # fmt: skip
    pod = found["Deployment"]["spec"]["template"]["spec"]
    [server] = pod["containers"]
    named = {one["name"]: one.get("value") for one in server["env"]}
    assert named["NIM_MODEL_PATH"] == f"hf://{NANO}"
    assert named["NIM_SERVED_MODEL_NAME"] == NANO
    assert named["NIM_MAX_MODEL_LEN"] == "32768"
    passed = shlex.split(str(named["NIM_PASSTHROUGH_ARGS"]))
    assert "--tensor-parallel-size" not in passed, "said by a variable"
    assert json.loads(passed[-1])["backend"] == "guidance"
    references = [one["valueFrom"]["secretKeyRef"] for one in server["env"] if "valueFrom" in one]
    assert [one["key"] for one in references] == ["hub", "ngc"]
    assert {"args", "command"}.isdisjoint(server), "the image's own"
    assert server["startupProbe"]["httpGet"]["path"] == "/v1/health/ready"
    assert pod["securityContext"] == {"fsGroup": 1000}
    assert "a NIM of one model brings its own" in text


def test_an_image_is_of_the_server_that_it_was_named_for() -> None:
    hardware = json.dumps({"image": "mine/vllm:1"})
    for words, image in (
        ((), "mine/vllm:1"),
        (("--server", "sglang"), "lmsysorg/sglang:v0.5.18"),
        (("--server", "nim", "--image", "nvcr.io/nim/nvidia/x:1"), "nvcr.io/nim/nvidia/x:1"),
    ):
        _, found = manifest(
            "--model", NANO, "--gpu", "h100", *words, env={"NEMOFLOWS_HARDWARE": hardware}
        )
        [server] = found["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert server["image"] == image


def test_names_are_what_kubernetes_takes(tmp_path: Path) -> None:
    for name in ("Warm", "3b", "a_b", "a" * 64):
        done = CliRunner().invoke(main, ["manifest", "--model", NANO, "--name", name])
        assert done.exit_code == 2
        assert "names no service" in done.output
    (tmp_path / "3B").mkdir()
    (tmp_path / "3B" / "config.json").write_text(json.dumps(NANO_4B))
    _, found = manifest("--model", str(tmp_path / "3B"), "--gpu", "h100")
    assert found["Service"]["metadata"]["name"] == "model-3b"
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False, "a service `vllm` would set VLLM_PORT"


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
