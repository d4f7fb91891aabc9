"""A stand-in for a cluster: admin and propeller, pods as processes, an object store.

    with start(folder) as cluster:      # cluster.config leads pyflyte, FlyteRemote, doctor to it
        ...                             # register, run
        cluster.wait(name)              # an execution, once it is over

A pod is the task's own command in an empty folder of its own, by an interpreter that has the wheel
and nothing of the checkout; it gets the task's variables, its secrets, FLYTE_INTERNAL_* and
FLYTE_AWS_*, and no other. An abort or `Pod.end` sends SIGTERM to its first process alone, and
SIGKILL to all of them after the grace; retries come at once.

Source: what a real Flyte 1 did, August 2026. Not here: scheduling, the data catalogue, timeouts.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyteidl.core import dynamic_job_pb2, errors_pb2, literals_pb2, tasks_pb2
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

from tests import propeller, wheels
from tests.admin import Admin, Execution, Literals, NodePhase, NodeRun, Phase, serve_admin
from tests.object_stores import serve_s3
from tests.propeller import Aborted, Failed, Job

BUCKET = "bucket"
RAW = f"s3://{BUCKET}/raw"
"""The raw-output prefix that this Flyte is configured with."""
PROJECT, DOMAIN = "flytesnacks", "development"
SYSTEM_RETRIES = 3
"""What Flyte gives a node beyond its own retries where a pod is lost."""
GRACE_S = 30.0
"""Kubernetes' terminationGracePeriodSeconds."""
_EXECUTION = "FLYTE_INTERNAL_EXECUTION_"


@dataclass
class Pod:
    """One attempt of a task."""

    execution: Execution
    node: str
    attempt: int
    task: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """End all processes at once, as a lost node does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, grace_s: float = GRACE_S) -> None:
        """End it as Kubernetes does: the first process is asked to, all are killed later."""
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        self.kill()
        self.process.wait()


@dataclass
class Cluster:
    """A running stand-in."""

    admin: Admin
    config: Path
    """Flyte's configuration file: admin and store."""
    url: str
    """The address of admin, as FLYTE_PLATFORM_URL takes it."""
    store: str
    """The address of the object store."""
    bin: Path
    """Where the commands of the pods' image are."""
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    """More variables for every pod, as `default-env-vars` of the platform."""
    secrets: dict[str, str] = field(default_factory=dict)
    """By GROUP/KEY."""
    gpus: int = 0
    """A pod that asks for more of them stays Pending."""
    pods: list[Pod] = field(default_factory=list)
    """All that were ever started."""
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))

    @property
    def storage(self) -> dict[str, str]:
        """Return the variables that lead Flyte's own code to the store, in pods and here."""
        return {
            "FLYTE_AWS_ENDPOINT": self.store,
            "FLYTE_AWS_ACCESS_KEY_ID": "minio",
            "FLYTE_AWS_SECRET_ACCESS_KEY": "miniostorage",
        }

    def wait(self, name: str, timeout_s: float = 300) -> Execution:
        """Return an execution once it is over."""
        found = self.admin.execution(name)
        with found.changed:
            assert found.changed.wait_for(lambda: found.is_over, timeout_s), found.phases()
        return found

    def running(self, execution: Execution, node: str) -> Pod:
        """Return the pod of a node, once it runs."""
        while True:
            for pod in self.pods:
                is_of = pod.execution is execution and pod.node == node
                if is_of and pod.process.poll() is None:
                    return pod
            assert not execution.is_over, execution.error
            time.sleep(0.02)

    def of(self, execution: Execution) -> list[Pod]:
        return [pod for pod in self.pods if pod.execution is execution]

    def put(self, uri: str, content: bytes) -> None:
        urllib.request.urlopen(self._asked(uri, content)).close()

    def get(self, uri: str) -> bytes | None:
        try:
            with urllib.request.urlopen(self._asked(uri)) as found:
                return bytes(found.read())
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def _asked(self, uri: str, content: bytes | None = None) -> urllib.request.Request:
        headers = {
            "content-type": "binary/octet-stream",  # moto would wait for the rest of a form
            "authorization": "AWS4-HMAC-SHA256 Credential=minio/20260101/us-east-1/s3/aws4_request",
        }
        address = f"{self.store}/{uri.removeprefix('s3://')}"
        method = "GET" if content is None else "PUT"
        return urllib.request.Request(address, content, headers, method=method)

    def run_task(
        self,
        execution: Execution,
        template: Any,
        inputs: Literals,
        path: str,
        retries: int,
        item: int | None = None,
    ) -> Literals | Job:
        """Run a task's pods until one succeeds or Flyte would give up."""
        own = path if item is None else f"{path}-{item}"
        who = execution.id
        place = f"s3://{BUCKET}/metadata/{who.project}-{who.domain}-{who.name}/{own}/data"
        self.put(f"{place}/inputs.pb", literals_pb2.LiteralMap(literals=inputs).SerializeToString())
        retries = retries or template.metadata.retries.retries
        record = execution.nodes.setdefault(path, NodeRun())
        n_failed = n_lost = 0
        for attempt in itertools.count():
            record.attempts = attempt + 1
            status = self._attempt(execution, template, own, place, attempt, item, record)
            found = self._left(f"{place}/{attempt}", template)
            if found is not None and not isinstance(found, str):
                return found
            if execution.is_ending:
                raise Aborted
            is_lost = found is None and status in {-9, -15, 137, 143}
            n_lost, n_failed = n_lost + is_lost, n_failed + (not is_lost)
            if n_lost > SYSTEM_RETRIES or n_failed > retries:
                why = found or f"the pod ended with {status}"
                raise Failed(
                    f"[{attempt + 1}/{attempt + 1}] currentAttempt done. Last Error: {why}"
                )
        raise AssertionError

    def _left(self, place: str, template: Any) -> Literals | Job | str | None:
        """Return what a pod left: outputs, what it wants run, or why it failed and may be retried.

        Raises:
            Failed: It says that trying again is of no use.
        """
        if (content := self.get(f"{place}/futures.pb")) is not None:
            return dynamic_job_pb2.DynamicJobSpec.FromString(content)
        if (content := self.get(f"{place}/outputs.pb")) is not None:
            return dict(literals_pb2.LiteralMap.FromString(content).literals)
        if (content := self.get(f"{place}/error.pb")) is None:
            return {} if not template.interface.outputs.variables else None
        error = errors_pb2.ErrorDocument.FromString(content).error
        message = f"{error.code}: {error.message}"
        if error.kind == error.NON_RECOVERABLE:
            raise Failed(message)
        return message

    def _attempt(
        self,
        execution: Execution,
        template: Any,
        own: str,
        place: str,
        attempt: int,
        item: int | None,
        record: NodeRun,
    ) -> int:
        """Run a pod to its end, whichever way that comes; return its first process's status."""
        self._await_gpu(execution, template, record)
        with self.slots:
            if execution.is_ending:
                raise Aborted
            record.phase, record.reason = NodePhase.RUNNING, ""
            pod = self._started(execution, template, own, place, attempt, item)
            self.pods.append(pod)
            while pod.process.poll() is None:
                with execution.changed:
                    execution.changed.wait(0.05)
                if execution.is_ending:
                    pod.end()
            pod.kill()  # a container ends with its first process
            return pod.process.returncode

    def _await_gpu(self, execution: Execution, template: Any, record: NodeRun) -> None:
        wanted = _gpus(template)
        if wanted <= self.gpus:
            return
        record.phase = NodePhase.QUEUED
        record.reason = (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are "
            "available: 1 No preemption victims found for incoming pod."
        )
        with execution.changed:
            execution.changed.wait_for(lambda: execution.is_ending)
        raise Aborted

    def _started(
        self, execution: Execution, template: Any, own: str, place: str, attempt: int, item: Any
    ) -> Pod:
        name = f"{execution.id.name}-{own}"
        shard = hashlib.sha256(name.encode()).hexdigest()[:2]
        raw = f"{RAW}/{shard}/{name}-{attempt}"
        before = f"{RAW}/{shard}/{name}-{attempt - 1}/_flytecheckpoints" if attempt else '""'
        filled = {
            "{{.input}}": f"{place}/inputs.pb",
            "{{.outputPrefix}}": f"{place}/{attempt}",
            "{{.rawOutputDataPrefix}}": raw,
            "{{.checkpointOutputPrefix}}": f"{raw}/_flytecheckpoints",
            "{{.prevCheckpointPrefix}}": before,
        }
        folder = self.folder / "pods" / f"{name}-{attempt}"
        words, variables = container(template)
        # The image's /root is the pod's own folder; what is compiled in a pod names that pod's.
        options = itertools.pairwise(["", *words])
        words = [str(folder / "root") if key == "--dest-dir" else word for key, word in options]
        (folder / "root").mkdir(parents=True)
        (folder / "tmp").mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [filled.get(word, word) for word in words],
                executable=self.bin / words[0],
                cwd=folder / "root",
                env=self._environment(execution, template, folder, attempt, item) | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Pod(execution, own, attempt, template.id.name, folder, process)

    def _environment(
        self, execution: Execution, template: Any, folder: Path, attempt: int, item: int | None
    ) -> dict[str, str]:
        who, task = execution.id, template.id
        own = {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder / "root"),
            "TMPDIR": str(folder / "tmp"),
            f"{_EXECUTION}ID": who.name,
            f"{_EXECUTION}PROJECT": who.project,
            f"{_EXECUTION}DOMAIN": who.domain,
            f"{_EXECUTION}WORKFLOW": execution.spec.launch_plan.name,
            "FLYTE_ATTEMPT_NUMBER": str(attempt),
        }
        for part in ("project", "domain", "name", "version"):
            own[f"FLYTE_INTERNAL_TASK_{part.upper()}"] = getattr(task, part)
        if item is not None:
            own |= {"BATCH_JOB_ARRAY_INDEX_VAR_NAME": "FLYTE_K8S_ARRAY_INDEX"}
            own |= {"FLYTE_K8S_ARRAY_INDEX": str(item)}
        return own | self.storage | self.env | self._secrets(template)

    def _secrets(self, template: Any) -> dict[str, str]:
        """Return what the pod webhook puts into a pod; a secret that is not there is left out."""
        found: dict[str, str] = {}
        for one in template.security_context.secrets:
            value = self.secrets.get(f"{one.group}/{one.key}")
            if value is not None:
                name = f"_FSEC_{one.group}_{one.key}".upper().replace("-", "_")
                found |= {name: value} | ({one.env_var: value} if one.env_var else {})
        return found


def container(template: Any) -> tuple[list[str], dict[str, str]]:
    """Return the words and the variables of a task's own container."""
    if template.HasField("k8s_pod"):
        spec = MessageToDict(template.k8s_pod.pod_spec)
        own = next(one for one in spec["containers"] if one["name"] == "primary")
        variables = {one["name"]: one.get("value", "") for one in own.get("env", [])}
        return [*own.get("command", []), *own["args"]], variables
    own = template.container
    return [*own.command, *own.args], {one.key: one.value for one in own.env}


def _gpus(template: Any) -> int:
    gpu = tasks_pb2.Resources.GPU
    asked = [one.value for one in template.container.resources.requests if one.name == gpu]
    if template.HasField("k8s_pod"):
        for one in MessageToDict(template.k8s_pod.pod_spec)["containers"]:
            found = one.get("resources", {}).get("requests", {}).get("nvidia.com/gpu")
            asked += [str(found)] if found else []
    return sum(int(float(one)) for one in asked)


def own_address() -> str:
    """Return an address of this machine that is not loopback: registration lets no such travel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


@contextmanager
def start(
    folder: Path,
    *,
    image: Path | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    before_store: Callable[[str], str] = lambda url: url,
) -> Iterator[Cluster]:
    """Run a cluster while the block does; its pods end with it.

    Args:
        folder: Empty: for the image, and the folders and logs of the pods.
        image: The `bin` of an image that was made before, by `wheels.image`.
        env: More variables for every pod.
        secrets: By GROUP/KEY.
        before_store: From the store's address to that of something that stands before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = image or wheels.image(folder)
    with serve_s3() as behind, serve_admin(folder, f"{behind}/{BUCKET}") as (admin, config):
        url = before_store(behind)
        platform = config.read_text().split("endpoint: ")[1].split()[0]
        cluster = Cluster(admin, config, platform, url, made, folder, dict(env or {}))
        cluster.secrets |= secrets or {}
        cluster.put(f"s3://{BUCKET}", b"")
        connection = f"endpoint: {url}\n    access-key: minio\n    secret-key: miniostorage\n"
        with config.open("a") as file:
            file.write(f"storage:\n  connection:\n    {connection}")
            file.write(f"task:\n  project: {PROJECT}\n  domain: {DOMAIN}\n")
        propeller.start(admin, cluster.run_task)
        try:
            yield cluster
        finally:
            for execution in admin.executions:
                execution.change(phase=Phase.ABORTED)
            for pod in cluster.pods:
                pod.kill()
                pod.process.wait()
