"""What packaging a workflow would ask of a cluster, read from the protobufs that it writes."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyteidl.admin import task_pb2
from flyteidl.core import tasks_pb2
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

from tests.support import run_command

RESOURCE = tasks_pb2.Resources.ResourceName


def pyflyte_package(folder: Path, env: Mapping[str, str], *, packages: str = "workflows") -> Any:
    """Run the command that packages; return what it printed and how it ended."""
    folder.mkdir()
    return run_command(
        "pyflyte", "--pkgs", packages, "package", "--image", "image:t",
        "--output", folder / "flyte.tgz", "-f", env=env,
    )  # fmt: skip


def package(folder: Path, env: Mapping[str, str], *, packages: str = "workflows") -> dict[str, Any]:
    """Package the workflows and return the tasks' templates by short name."""
    done = pyflyte_package(folder, env, packages=packages)
    assert done.returncode == 0, done.stdout
    templates = {}
    with tarfile.open(folder / "flyte.tgz") as archive:
        for member in archive.getmembers():
            if member.name.endswith("_1.pb"):
                content = archive.extractfile(member)
                assert content is not None
                found = task_pb2.TaskSpec()
                found.ParseFromString(content.read())
                templates[found.template.id.name.rpartition(".")[2]] = found.template
    return templates


def pod(template: Any) -> dict[str, Any]:
    """Return the pod's specification of a task that has one; empty for others."""
    found: dict[str, Any] = _whole(MessageToDict(template.k8s_pod.pod_spec))
    return found


def _whole(value: Any) -> Any:
    """Return a value whose whole numbers are integers: a protobuf's struct has only floats."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def limits(template: Any) -> dict[str, str]:
    """Return the limits of a task's own container, by Flyte's names of resources.

    Requests must be the same: what is only requested can be had less of.
    """
    spec = pod(template)
    if spec:
        own = next(one for one in spec["containers"] if one["name"] == "primary")["resources"]
        assert own["requests"] == own["limits"]
        names = {"nvidia.com/gpu": "GPU", "ephemeral-storage": "EPHEMERAL_STORAGE"}
        return {names.get(name, name.upper()): value for name, value in own["limits"].items()}
    resources = template.container.resources
    sides = [
        {RESOURCE.Name(row.name): row.value for row in side}
        for side in (resources.requests, resources.limits)
    ]
    assert sides[0] == sides[1]
    return sides[1]


def gpus(template: Any) -> str:
    """Return the number of GPUs of a task's own container; empty where it has none."""
    return limits(template).get("GPU", "")


def environment(template: Any) -> dict[str, str]:
    """Return the variables of every container of a task."""
    spec = pod(template)
    if not spec:
        return {pair.key: pair.value for pair in template.container.env}
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    pairs = [pair for container in containers for pair in container.get("env", [])]
    return {pair["name"]: pair.get("value", "") for pair in pairs}


def secret_names(template: Any) -> list[str]:
    """Return the variables that Flyte is asked to put secrets into."""
    return [secret.env_var for secret in template.security_context.secrets]
