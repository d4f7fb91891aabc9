"""What pods tell of themselves to `nemoflows doctor --cluster`, each fault with its remedy."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from nemoflows.cli import machine, pods
from nemoflows.cli.machine import Check
from tests.loopback import ModelServer
from tests.pods import run_pod

ON_GPU = {
    "NEMOFLOWS_EFFICIENT": "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
    "NEMOFLOWS_GPU": "h100",
}
HERE = pods.installed_here()
Checks = dict[str, dict[str, Any]]


def has_failed(found: Checks, about: str, told: str, remedy: str) -> None:
    """Assert that a fault is found, and that its remedy is named."""
    assert found[about]["state"] == "failed", found[about]
    assert told in found[about]["told"], found[about]
    assert remedy in found[about]["remedy"], found[about]


def pod(task: Any, folder: Path, env: dict[str, str], here: pods.Installed = HERE) -> Checks:
    """Return what a pod finds, by its own command."""
    done = run_pod(task, folder, env, here=here)
    assert done.outputs is not None, done.log
    return {one.about: one.model_dump() for one in done.outputs["o0"].checks}


def test_a_cpu_pod_of_another_release_without_key_endpoint_and_store(
    server: ModelServer, tmp_path: Path
) -> None:
    away = {"away": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    served = json.loads(server.endpoints("near"))
    keyed = json.loads(server.endpoints("far", key_env="FAR_KEY"))
    here = pods.Installed(library="0.0.1", code="0", python="3.99.1")
    env = {
        "NEMOFLOWS_ENDPOINTS": json.dumps(away | served | keyed),
        "NEMOFLOWS_POLICY": '{"frontier": "far:tiny", "efficient": "near:other"}',
        "NEMOFLOWS_JOURNAL": "s3://bucket/journal",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    found = pod(pods.look_at_cpu_pod, tmp_path / "a", env, here)
    has_failed(found, "nemoflows", "there, 0.0.1 here", "Build the image")
    assert found["python"]["state"] == "note"
    assert "take one Python" in found["python"]["remedy"]
    has_failed(found, "journal", "FLYTE_AWS_ACCESS_KEY_ID (not set)", "Give NEMOFLOWS_JOURNAL")
    has_failed(
        found, "secret FAR_KEY", "namespace 'p-d'", "kubectl create secret generic nemoflows -n p-d"
    )
    has_failed(found, "efficient model", "'other' is not served there", "Name one of these")
    more = {"NEMOFLOWS_POLICY": '{"frontier": "away:x"}', "NEMOFLOWS_DEADLINE_S": "1"}
    more |= {"NEMOFLOWS_JOURNAL": ""}
    same = HERE.model_copy(update={"code": "0"})
    found = pod(pods.look_at_cpu_pod, tmp_path / "b", env | more, same)
    has_failed(found, "nemoflows", "with other code", "Build the image")
    has_failed(found, "frontier server", "did not answer", "correct the base_url of 'away'")
    has_failed(found, "journal", "ends with this pod", "NEMOFLOWS_JOURNAL")


def test_a_gpu_pod_whose_gpu_is_too_small(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Tesla T4, 15360, 580.65.06'\n")
    program.chmod(0o755)
    bucket = {"NEMOFLOWS_HARDWARE": json.dumps({"weights": f"file://{tmp_path}"})}
    env = ON_GPU | bucket | {"PATH": f"{program.parent}:/usr/bin:/bin"}
    found = pod(pods.look_at_model_pod, tmp_path / "pod", env)
    has_failed(found, "efficient GPU", "1x Tesla T4, 15 GiB each", "NEMOFLOWS_GPU")
    has_failed(found, "efficient weights", "has no config.json", "`weights`")


def test_a_pod_whose_server_beside_it_is_not_there(tmp_path: Path) -> None:
    env = ON_GPU | {"NEMOFLOWS_EFFICIENT": ON_GPU["NEMOFLOWS_EFFICIENT"].replace("vllm", "sidecar")}
    found = pod(pods.look_at_model_pod, tmp_path / "pod", env)
    has_failed(found, "efficient health", "127.0.0.1:8000/health does not answer", "read its log")
    assert found["efficient plan"]["state"] == "ok"


def test_a_tests_pod_without_git(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(str(shutil.which("sh")))
    found = pod(pods.look_at_tests_pod, tmp_path / "pod", {"PATH": str(tmp_path / "bin")})
    has_failed(found, "git", "not installed", "`tests_image`")
    assert {found[one]["state"] for one in ("sandbox", "pytest")} == {"ok"}


def test_a_pod_that_contains_no_test_run_and_has_no_pytest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_ID", "e1")

    async def weak() -> tuple[str, ...]:
        return ("weak",)

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine, "available", weak)
    monkeypatch.setattr(metadata, "version", missing)
    found = {one.about: one.model_dump() for one in machine.tools_of_tests()}
    has_failed(found, "sandbox", "the level weak alone", "Linux 6.2")
    has_failed(found, "pytest", "not installed", "NEMOFLOWS_REGISTRY")


@pytest.mark.parametrize(
    ("release", "state"), [(machine.TESTED_VLLM, "ok"), ("0.21.1", "note"), ("1.0.0rc1", "note")]
)
def test_a_release_of_vllm_that_was_not_tested_is_noted(
    release: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "installed", lambda: "vllm")
    monkeypatch.setattr(metadata, "version", lambda _: release)
    found: Check = machine.engine("efficient")
    assert (found.state, bool(found.remedy)) == (state, state == "note")
    assert release in found.told
