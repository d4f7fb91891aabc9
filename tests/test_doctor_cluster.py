"""`nemoflows doctor --cluster` names what pods lack, with a remedy; nothing is paid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import pytest
from flyteidl.core import execution_pb2 as phases

from tests import stand_in
from tests.admin import Admin, Execution, NodePhase, NodeRun, serve_admin
from tests.loopback import ModelServer
from tests.support import run_command
from tests.test_doctor_pods import ON_GPU, Checks, has_failed


def examined(config: Path | str, *words: str, **env: str) -> tuple[int, Checks, str]:
    done = run_command(
        "nemoflows", "doctor", "--cluster", "--json", "--config", config, "-i", "image:t", *words,
        env=env,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout
    said, bracket, checks = done.stdout.partition("[\n")
    found = {check["about"]: check for check in json.loads(bracket + checks)}
    assert all(check["remedy"] for check in found.values() if check["state"] == "failed")
    return done.returncode, found, said


def test_pods_tell_what_they_have_and_what_they_reach(server: ModelServer, tmp_path: Path) -> None:
    env = ON_GPU | {
        "NEMOFLOWS_OFFLINE": "0",
        "NEMOFLOWS_FRONTIER": "anthropic:tiny",
        "NEMOFLOWS_SECRETS": '{"ANTHROPIC_API_KEY": "team/claude"}',
    }
    with stand_in.start(
        tmp_path / "cluster",
        env={"ANTHROPIC_BASE_URL": server.url.removesuffix("/v1")},
        secrets={"team/claude": "canary"},
    ) as cluster:
        cluster.gpus = 1
        status, found, said = examined(cluster.config, **env)
        assert cluster.admin.names("workflow") == {"nemoflows.doctor"}
        assert all(name.startswith("nemoflows.cli.pods.") for name in cluster.admin.names("task"))
        assert not cluster.admin.uploads
        [execution] = cluster.admin.executions
        assert execution.is_over
    assert f"executions/{execution.id.name}" in said
    assert "has 300 s to start" in said
    assert status == 1
    has_failed(found, "gpu efficient engine", "vLLM is not installed", "examples/image/Dockerfile")
    has_failed(found, "gpu efficient GPU", "no nvidia-smi", "device plugin")
    broken = {"gpu efficient engine", "gpu efficient GPU"}
    assert {about for about, check in found.items() if check["state"] != "ok"} == broken, found
    for pod in ("cpu", "tests", "gpu"):
        version = metadata.version("nemoflows")
        assert found[f"{pod} nemoflows"]["told"] == f"{version} there and here"
        assert found[f"{pod} image"]["told"] == "image:t"
        place = "s3://bucket/raw/nemoflows/flytesnacks/development/journal"
        assert place in found[f"{pod} journal"]["told"]
    assert found["cpu frontier server"]["told"] == "serves tiny"
    assert "'team', key 'claude'" in found["cpu secret ANTHROPIC_API_KEY"]["told"]
    assert {"tests sandbox", "tests pytest", "tests git", "gpu efficient plan"} <= set(found)
    assert "canary" not in json.dumps(found) + said
    assert server.requests == [], "models were listed, and none was asked"


@pytest.fixture
def unscheduled(tmp_path: Path) -> Iterator[tuple[Admin, Path, dict[str, NodeRun]]]:
    """Yield a cluster whose pods go no further than it is told."""
    nodes: dict[str, NodeRun] = {}

    def launch(execution: Execution) -> None:
        execution.nodes |= nodes
        execution.change(phase=phases.WorkflowExecution.RUNNING)

    with serve_admin(tmp_path) as (admin, config):
        admin.launch = launch
        yield admin, config, nodes


QUEUED = NodePhase.QUEUED
NO_GPU = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: not helpful."
NO_PULL = 'containers with unready status: [a]|failed to pull image "image:t": ErrImagePull'
NO_MODULE = "File x, line 1\nModuleNotFoundError: No module named 'nemoflows.cli.pods'"
NO_CLAIM = 'persistentvolumeclaim "weights" not found'
TAINT = "0/4 nodes are available: 4 node(s) had untolerated taint {dedicated: other}."


def test_a_pod_that_does_not_start_is_told_with_the_schedulers_reason(
    unscheduled: tuple[Admin, Path, dict[str, NodeRun]],
) -> None:
    admin, config, nodes = unscheduled
    nodes |= {
        "cpu": NodeRun(NodePhase.FAILED, reason=NO_MODULE, attempts=1),
        "tests": NodeRun(QUEUED, reason=NO_PULL, attempts=1),
        "gpu": NodeRun(QUEUED, reason=NO_GPU, attempts=1),
    }
    status, found, _ = examined(config, "--patience", "0", **ON_GPU)
    assert status == 1
    has_failed(found, "cpu pod", NO_MODULE.splitlines()[-1], "or an older one: build it")
    has_failed(found, "tests pod", f"pending for 0 s: {NO_PULL}", "Push the image")
    has_failed(found, "gpu pod", f"pending for 0 s: {NO_GPU}", "NEMOFLOWS_GPU names another")
    nodes |= {
        "cpu": NodeRun(QUEUED, reason="", attempts=1),
        "tests": NodeRun(QUEUED, reason=TAINT, attempts=1),
        "gpu": NodeRun(QUEUED, reason=NO_CLAIM, attempts=1),
    }
    status, found, _ = examined(config, "--patience", "0", **ON_GPU)
    has_failed(found, "cpu pod", "Flyte tells no reason", "kubectl describe pod -n flytesnacks-")
    has_failed(found, "tests pod", TAINT, "tolerations")
    has_failed(found, "gpu pod", NO_CLAIM, "volume_claim")
    assert len(admin.versions()) == 1, "the same content is the same version"
    ending = phases.WorkflowExecution.ABORTING
    assert [one.phase for one in admin.executions] == [ending, ending], "nothing is left waiting"


def test_a_cluster_that_is_not_there_and_a_project_that_nobody_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "away.yaml"
    config.write_text("admin:\n  endpoint: dns:///127.0.0.1:9\n  insecure: true\n")
    status, found, _ = examined(config)
    assert status == 1
    has_failed(found, "cluster", "127.0.0.1:9 does not answer", "flytectl demo start")
    status, found, _ = examined(tmp_path / "none.yaml")
    has_failed(found, "cluster", "is no file", "--config")

    def refuse(_: Admin, request: Any, context: Any) -> None:
        what = (
            f"failed to validate that project [{request.id.project}] and domain "
            f"[{request.id.domain}] are registered, err: [missing entity of type project]"
        )
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)

    monkeypatch.setattr(Admin, "CreateTask", refuse)
    with serve_admin(tmp_path) as (_, config):
        status, found, _ = examined(config, "-p", "nobodys", "-d", "production")
    assert status == 1
    has_failed(found, "registration", "project [nobodys]", "flytectl create project")
    assert "nothing was started" in found["registration"]["told"]


def test_what_pods_could_not_reach_is_refused_before_anything_is_registered(
    server: ModelServer, tmp_path: Path
) -> None:
    env = {"NEMOFLOWS_EFFICIENT": "near:tiny", "NEMOFLOWS_ENDPOINTS": server.endpoints("near")}
    status, found, _ = examined(tmp_path / "none", **env)
    assert status == 1
    has_failed(found, "settings", "in a pod is the pod itself", "Correct it")
    status, found, _ = examined(tmp_path / "none", **ON_GPU | {"NEMOFLOWS_GPU": "t4"})
    has_failed(found, "settings", "cannot run on t4", "Correct it")
