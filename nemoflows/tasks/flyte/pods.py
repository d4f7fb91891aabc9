"""Pod templates: where pods with a GPU run and what is mounted into them; pods of tests."""

from __future__ import annotations

from typing import Any

from flytekit import PodTemplate

from nemoflows.models.hardware import Pod
from nemoflows.settings import Settings

CACHE = "/var/cache/nemoflows"
"""Where weights and compiled kernels are kept; its volume is mounted there."""

TESTS = "nemoflows/tests"
"""Label of pods that run a repository's tests."""


def cache_environment() -> dict[str, str]:
    """Return the variables that keep weights and compiled kernels on the mounted volume."""
    return {"HF_HOME": f"{CACHE}/huggingface", "VLLM_CACHE_ROOT": f"{CACHE}/vllm"}


def placed(settings: Settings) -> PodTemplate | None:
    """Return the template of a task that has the GPU itself; None where nothing is asked for."""
    from kubernetes.client import V1Container, V1PodSpec

    pod = settings.hardware.pod
    if pod.model_copy(update={"spot": True, "isolate_tests": False}) == Pod():
        return None
    primary = V1Container(name="primary", volume_mounts=mounts(settings) or None)
    spec = V1PodSpec(containers=[primary], **placement(settings))
    return PodTemplate(pod_spec=spec, labels=pod.labels, annotations=pod.annotations)


def isolated(settings: Settings) -> PodTemplate | None:
    """Return the template of a task that runs tests; None where nothing is asked for."""
    if not settings.hardware.pod.isolate_tests:
        return None
    from kubernetes.client import V1Container, V1PodSpec

    spec = V1PodSpec(
        containers=[V1Container(name="primary")], automount_service_account_token=False
    )
    return PodTemplate(pod_spec=spec, labels={TESTS: "true"})


def placement(settings: Settings, *, server: bool = False) -> dict[str, Any]:
    """Return the parts of a pod's specification that say where it runs.

    Flyte tolerates GPU nodes' own taint for the task's container only, so a server does it itself.
    """
    from kubernetes.client import (
        V1LocalObjectReference,
        V1PersistentVolumeClaimVolumeSource,
        V1Toleration,
        V1Volume,
    )

    pod = settings.hardware.pod
    tolerations: list[Any] = [V1Toleration(**_fields(given)) for given in pod.tolerations]
    if server:
        tolerations.append(
            V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
        )
    volumes = []
    if pod.volume_claim:
        claim = V1PersistentVolumeClaimVolumeSource(claim_name=pod.volume_claim)
        volumes.append(V1Volume(name="cache", persistent_volume_claim=claim))
    pulled = [V1LocalObjectReference(name=pod.image_pull_secret)] if pod.image_pull_secret else []
    return {
        "node_selector": pod.node_selector or None,
        "tolerations": tolerations or None,
        "volumes": volumes or None,
        "image_pull_secrets": pulled or None,
    }


def _fields(given: dict[str, str]) -> dict[str, Any]:
    return dict(given)


def mounts(settings: Settings) -> list[Any]:
    """Return the mount of the volume that keeps weights; empty without one."""
    from kubernetes.client import V1VolumeMount

    return (
        [V1VolumeMount(name="cache", mount_path=CACHE)]
        if settings.hardware.pod.volume_claim
        else []
    )
