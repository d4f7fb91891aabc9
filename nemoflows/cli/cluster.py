"""`nemoflows doctor --cluster`: one small execution whose pods look around, and nothing is paid.

Registered are three tasks and a workflow of our own, under a version that stands for their content;
of the user's nothing is. The configuration is found as pyflyte finds it.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from nemoflows import settings as settings_module
from nemoflows.cli.checks import misnamed, reached
from nemoflows.cli.machine import Check, failed, ok
from nemoflows.errors import NemoflowsError
from nemoflows.gpus import planned
from nemoflows.settings import Settings

if TYPE_CHECKING:
    from flytekit.core.workflow import ImperativeWorkflow
    from flytekit.remote import FlyteRemote

NAME = "nemoflows.doctor"
PATIENCE_S = 300.0
"""Time for a pod to start, and once more to end. Source: chosen; a node that an autoscaler adds
takes minutes, as does pulling vLLM's image."""
ONLINE = "Unset NEMOFLOWS_OFFLINE: pods are started over the network."
POLL_S = 1.0
_SUCCEEDED, _FAILED = {3, 10}, {4, 5, 6, 7, 8}
"""Phases of nodes that have ended. Source: flyteidl's core.NodeExecution.Phase."""
_RUNNING = 2
"""Phase of a task whose container runs. Source: flyteidl's core.TaskExecution.Phase."""
_OVER = {3, 4, 5, 6, 7, 8}
"""Phases of an execution that goes nowhere any more. Source: flyteidl's core.WorkflowExecution."""

_REMEDIES = {
    r"No module named '?nemoflows": (
        "The pod's image has no nemoflows, or an older one: build it with this one and name it, "
        "CPU tasks' with --image, others' as `image` and `tests_image` in NEMOFLOWS_HARDWARE; or "
        "have images built with NEMOFLOWS_REGISTRY."
    ),
    r"ErrImagePull|ImagePullBackOff|InvalidImageName|[Pp]ull(ing)? image|manifest unknown": (
        "Push the image, correct its name (--image; `image` and `tests_image` in "
        "NEMOFLOWS_HARDWARE), or let the namespace {namespace} pull it (imagePullSecrets)."
    ),
    r"Insufficient (nvidia|amd)|didn't match Pod's node affinity|node selector": (
        "No node has the GPU free that is asked for: NEMOFLOWS_GPU names another, node_selector "
        "in `pod` of NEMOFLOWS_HARDWARE where it is; a pool that grows may need more --patience."
    ),
    r"untolerated taint": (
        "Tolerate it: `tolerations` in `pod` of NEMOFLOWS_HARDWARE, or Flyte's own for its GPUs."
    ),
    r"Insufficient|exceeded quota|resource quota": (
        "No node, or the namespace's quota, has room: free some, add nodes, or raise the quota."
    ),
    r"persistentvolumeclaim|FailedMount|unbound immediate": (
        "Make the claim that `volume_claim` in `pod` of NEMOFLOWS_HARDWARE names, in the namespace "
        "{namespace}."
    ),
    r"secret .*not found|CreateContainerConfigError": (
        "Make the secret in the namespace {namespace}; NEMOFLOWS_SECRETS says which is read."
    ),
    r"OOMKilled": "The pod's memory was not enough: see the platform's limits.",
}
"""What a pod's reason says, and what helps; the first that fits."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the execution runs, with what, and how long it is waited for."""

    config: str = ""
    project: str = ""
    domain: str = ""
    images: tuple[str, ...] = ()
    service_account: str = ""
    raw_prefix: str = ""
    patience_s: float = PATIENCE_S
    tell: Callable[[str], None] = print
    """Is told where the execution is."""


def everything(target: Target) -> Iterator[Check]:
    """Look at what is needed to start, then at each pod."""
    try:
        loaded = settings_module.load()
        _refuse_unbindable(loaded)
    except NemoflowsError as error:
        yield failed(
            "settings", error.message, "Correct it; docs/settings.md says what each takes."
        )
        return
    if wrong := misnamed(target.config):
        yield wrong
        return
    remote = _remote(target)
    endpoint = remote.config.platform.endpoint
    found = reached(endpoint, target.config or "Flyte's configuration", loaded)
    yield found if found.state == "ok" else failed("cluster", found.told, found.remedy or ONLINE)
    if found.state != "ok":
        return
    try:
        workflow, nodes = _workflow()
        execution = _start(remote, workflow, target)
    except Exception as error:  # noqa: BLE001  (flytekit, gRPC and image builders have their own)
        yield _not_started(error, remote)
        return
    console = remote.generate_console_url(execution)
    target.tell(
        f"execution: {console}\nA pod has {target.patience_s:g} s to start, and as long to look "
        "around."
    )
    yield from _followed(remote, execution, target, nodes)


def _followed(
    remote: FlyteRemote, execution: Any, target: Target, nodes: list[str]
) -> Iterator[Check]:
    """Yield what pods find, and leave none of them behind."""
    from flytekit.exceptions.base import FlyteException

    try:
        yield from _Watch(remote, execution, target.patience_s).pods(nodes)
    except FlyteException as error:
        remedy = f"Look at {remote.generate_console_url(execution)} once it answers again."
        yield failed("cluster", f"admin answered no more: {_said(error)}", remedy)
    finally:
        with suppress(FlyteException):
            if remote.client.get_execution(execution.id).closure.phase not in _OVER:
                remote.terminate(execution, "nemoflows doctor has seen what it came for")


def _refuse_unbindable(loaded: Settings) -> None:
    """Refuse what registering refuses: a model that does not fit, and what pods cannot reach."""
    from nemoflows.tasks.flyte.binding import refuse_what_stays_here

    policy = loaded.default_policy()
    refuse_what_stays_here(loaded, policy)
    if loaded.runs_in_task(policy.efficient):
        planned(loaded, policy.efficient)


def _remote(target: Target) -> FlyteRemote:
    from flytekit.clis.sdk_in_container.utils import domain_option, project_option
    from flytekit.configuration.plugin import get_plugin

    project = target.project or str(project_option.default)
    domain = target.domain or str(domain_option.default)
    return get_plugin().get_remote(target.config or None, project, domain)


def _workflow() -> tuple[ImperativeWorkflow, list[str]]:
    """Return the workflow and the names of its nodes: one for each kind of pod that is bound."""
    from flytekit.core.workflow import ImperativeWorkflow, WorkflowFailurePolicy

    from nemoflows.cli import pods

    policy = WorkflowFailurePolicy.FAIL_AFTER_EXECUTABLE_NODES_COMPLETE
    workflow = ImperativeWorkflow(NAME, failure_policy=policy)
    here = workflow.add_workflow_input("here", pods.Installed)
    looking = {"cpu": pods.look_at_cpu_pod, "tests": pods.look_at_tests_pod}
    if pods.KIND != "cpu":
        looking[pods.KIND] = pods.look_at_model_pod
    for name, task in looking.items():
        workflow.add_entity(task, here=here).with_overrides(node_name=name)
    return workflow, list(looking)


def _start(remote: FlyteRemote, workflow: ImperativeWorkflow, target: Target) -> Any:
    from flytekit.clis.sdk_in_container.helpers import patch_image_config
    from flytekit.configuration import ImageConfig, SerializationSettings
    from flytekit.core.options import Options

    from nemoflows.cli.pods import installed_here

    images = ImageConfig.validate_image(None, "image", target.images)
    told = SerializationSettings(
        image_config=patch_image_config(target.config or None, images),
        project=remote.default_project,
        domain=remote.default_domain,
    )
    version = _version(workflow, told)
    registered = remote.register_workflow(workflow, told, version)
    name = f"doctor{uuid.uuid4().hex[:12]}"
    return remote.execute(
        registered,
        {"here": installed_here()},
        execution_name=name,
        options=Options.default_from(target.service_account, target.raw_prefix),
    )


def _version(workflow: ImperativeWorkflow, told: Any) -> str:
    """Return a version that stands for the library's code and for all that is registered."""
    from flytekit.models.admin.workflow import WorkflowSpec
    from flytekit.models.task import TaskSpec
    from flytekit.tools.translator import get_serializable

    from nemoflows.tasks.flyte.registration import code_digest

    made: OrderedDict[Any, Any] = OrderedDict()
    get_serializable(made, replace(told, version="any"), workflow)
    specs = [
        one.to_flyte_idl() for one in made.values() if isinstance(one, TaskSpec | WorkflowSpec)
    ]
    content = hashlib.sha256(code_digest().encode())
    for spec in sorted(spec.SerializeToString(deterministic=True) for spec in specs):
        content.update(spec)
    return content.hexdigest()[:24]


def _not_started(error: Exception, remote: FlyteRemote) -> Check:
    said = _said(error)
    project, domain = remote.default_project, remote.default_domain
    remedy = "Mend what admin refuses; its log says more."
    if re.search("project|domain", said):
        remedy = (
            f"Name a project and a domain that exist with -p and -d (not {project} and {domain}); "
            "`flytectl create project` makes one."
        )
    elif "imit" in said:
        remedy = "Raise the platform's limits (task_resources), or name a smaller GPU or model."
    elif isinstance(error, NemoflowsError):
        remedy = "Correct it as it says."
    return failed("registration", f"{said} (nothing was started)", remedy)


def _said(error: Exception) -> str:
    details = getattr(error.__cause__, "details", None)  # gRPC's
    return str(details() if details else error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class _State:
    """How far a pod is."""

    kind: Literal["pending", "running", "succeeded", "failed"]
    reason: str = ""


@dataclass(slots=True)
class _Watch:
    """Follows an execution until each of its pods has told what it found, or does not start."""

    remote: FlyteRemote
    execution: Any
    patience_s: float
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def pods(self, names: list[str]) -> Iterator[Check]:
        """Yield what each pod found, in the order of `names`, once each has or does not start."""
        told: dict[str, list[Check]] = {}
        while len(told) < len(names):
            end, nodes = self._end(), self._nodes()
            for name in [one for one in names if one not in told]:
                state = self._state(nodes.get(name))
                if state.kind == "succeeded":
                    told[name] = self._told(name, nodes[name])
                elif state.kind == "failed":
                    told[name] = [self._lost(name, "failed", state.reason)]
                elif end:
                    told[name] = [self._lost(name, "was not looked at any more", end)]
                elif self._is_late(name, state.kind):
                    late = f"{state.kind} for {self.patience_s:g} s"
                    told[name] = [self._lost(name, late, state.reason)]
            time.sleep(POLL_S if len(told) < len(names) else 0)
        for name in names:
            yield from told[name]

    def _end(self) -> str:
        """Return how the execution ended; empty while it goes on."""
        closure = self.remote.client.get_execution(self.execution.id).closure
        if closure.phase not in _OVER:
            return ""
        return closure.error.message if closure.error else "the execution is over"

    def _nodes(self) -> dict[str, Any]:
        from flyteidl.admin.node_execution_pb2 import NodeExecutionListRequest

        asked = NodeExecutionListRequest(
            workflow_execution_id=self.execution.id.to_flyte_idl(), limit=100
        )
        found = self.remote.client.raw.list_node_executions_paginated(asked)
        return {node.id.node_id: node for node in found.node_executions}

    def _state(self, node: Any) -> _State:
        from flyteidl.admin.task_execution_pb2 import TaskExecutionListRequest

        if node is None:
            return _State("pending")
        if node.closure.phase in _SUCCEEDED:
            return _State("succeeded")
        if node.closure.phase in _FAILED:
            return _State("failed", node.closure.error.message)
        asked = TaskExecutionListRequest(node_execution_id=node.id, limit=100)
        attempts = self.remote.client.raw.list_task_executions_paginated(asked).task_executions
        if not attempts:
            return _State("pending")
        latest = max(attempts, key=lambda one: one.id.retry_attempt).closure
        reasons = [latest.reason, *(one.message for one in latest.reasons)]
        return _State(
            "running" if latest.phase == _RUNNING else "pending",
            next((one for one in reversed(reasons) if one), ""),
        )

    def _is_late(self, name: str, kind: str) -> bool:
        if self._since.get(name, ("", 0.0))[0] != kind:
            self._since[name] = (kind, time.monotonic())
        return time.monotonic() - self._since[name][1] > self.patience_s

    def _told(self, name: str, node: Any) -> list[Check]:
        from flytekit import FlyteContextManager
        from flytekit.core.type_engine import TypeEngine
        from flytekit.models.core.identifier import NodeExecutionIdentifier

        from nemoflows.cli.pods import Found

        identifier = NodeExecutionIdentifier.from_flyte_idl(node.id)
        outputs = self.remote.client.get_node_execution_data(identifier).full_outputs
        context = FlyteContextManager.current_context()
        [found] = TypeEngine.literal_map_to_kwargs(context, outputs, {"o0": Found}).values()
        checks = [ok("pod", "it ran"), *found.checks]
        return [one.model_copy(update={"about": f"{name} {one.about}"}) for one in checks]

    def _lost(self, name: str, how: str, reason: str) -> Check:
        words = " ".join(reason.split())[-600:] or "Flyte tells no reason"
        place = f"{self.execution.id.project}-{self.execution.id.domain}"
        usual = f"kubectl describe pod -n {place} {self.execution.id.name}-{name}-0 says more."
        fits = (remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, reason))
        return failed(f"{name} pod", f"{how}: {words}", next(fits, usual).format(namespace=place))
