"""A stand-in for Flyte's admin on loopback, as strict about registered versions as the real one.

It keeps what is registered and started, and hands what is started to whoever walks it:
`tests/stand_in.py` has pods for that, and without one nothing runs.
"""

from __future__ import annotations

import io
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin import (
    execution_pb2,
    launch_plan_pb2,
    node_execution_pb2,
    project_pb2,
    signal_pb2,
    task_execution_pb2,
    task_pb2,
    workflow_pb2,
)
from flyteidl.admin import version_pb2 as versions
from flyteidl.core import compiler_pb2, literals_pb2
from flyteidl.core import execution_pb2 as phases_pb2
from flyteidl.service import (
    admin_pb2_grpc,
    dataproxy_pb2,
    dataproxy_pb2_grpc,
    signal_pb2_grpc,
)

Kind = tuple[str, str, str, str, str]
Literals = dict[str, Any]
Phase = phases_pb2.WorkflowExecution
NodePhase = phases_pb2.NodeExecution
OVER = {Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED}
ENDING = {Phase.FAILING, Phase.ABORTING} | OVER


@dataclass
class NodeRun:
    """What came of a node: `n2`, or `n2-0-n1` within another one."""

    phase: int = NodePhase.UNDEFINED
    outputs: Literals | None = None
    job: Any = None
    """What a `@dynamic` task asked for."""
    reason: str = ""
    """Why its pod does not run yet, or what it ended with."""
    attempts: int = 0


@dataclass
class Execution:
    """One execution: what it was started with, and how far it has come."""

    id: Any
    spec: Any
    inputs: Any
    """As they were given, without the launch plan's defaults."""
    recovers: Execution | None = None
    phase: int = Phase.QUEUED
    error: str = ""
    outputs: Literals = field(default_factory=dict)
    nodes: dict[str, NodeRun] = field(default_factory=dict)
    signals: dict[str, Any] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Signals that it waits for, or has waited for."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def is_over(self) -> bool:
        return self.phase in OVER

    @property
    def is_ending(self) -> bool:
        return self.phase in ENDING

    def change(self, **values: Any) -> None:
        """Change something that others wait for; what is over stays as it is."""
        with self.changed:
            if not self.is_over:
                for name, value in values.items():
                    setattr(self, name, value)
            self.changed.notify_all()

    def phases(self) -> dict[str, str]:
        return {path: NodePhase.Phase.Name(node.phase) for path, node in self.nodes.items()}


class Admin(
    admin_pb2_grpc.AdminServiceServicer,  # type: ignore[misc]
    dataproxy_pb2_grpc.DataProxyServiceServicer,  # type: ignore[misc]
    signal_pb2_grpc.SignalServiceServicer,  # type: ignore[misc]
):
    """Keeps tasks, workflows, launch plans and executions; its methods are Flyte's calls."""

    def __init__(self) -> None:
        self.registered: dict[Kind, Any] = {}
        """Specification by kind, project, domain, name and version."""
        self.n_repeated = 0
        """Registrations of what was there already."""
        self.executions: list[Execution] = []
        self.uploads: dict[str, bytes] = {}
        self.put_url = ""
        self.launch: Callable[[Execution], None] = lambda _: None
        """Told of every execution that is created."""

    def names(self, kind: str) -> set[str]:
        return {key[3] for key in self.registered if key[0] == kind}

    def versions(self) -> set[str]:
        return {key[4] for key in self.registered}

    def execution(self, name: str) -> Execution:
        return next(one for one in self.executions if one.id.name == name)

    def _keep(self, kind: str, request: Any, context: Any) -> None:
        before = self.registered.setdefault(_key(kind, request.id), request.spec)
        if before is request.spec:
            return
        if before != request.spec:
            what = f"{kind} with different structure already exists with id {request.id}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)
        self.n_repeated += 1
        context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{kind} with identical structure exists")

    def found(self, kind: str, identifier: Any, context: Any = None) -> Any:
        spec = self.registered.get(_key(kind, identifier))
        if spec is None and context is None:
            raise KeyError(identifier)
        if spec is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no {kind} {identifier}")
        return spec

    def CreateTask(self, request: Any, context: Any) -> Any:
        self._keep("task", request, context)
        return task_pb2.TaskCreateResponse()

    def CreateWorkflow(self, request: Any, context: Any) -> Any:
        if not request.spec.template.nodes:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "NoNodesFound")
        self._keep("workflow", request, context)
        return workflow_pb2.WorkflowCreateResponse()

    def CreateLaunchPlan(self, request: Any, context: Any) -> Any:
        self._keep("launch plan", request, context)
        return launch_plan_pb2.LaunchPlanCreateResponse()

    def GetTask(self, request: Any, context: Any) -> Any:
        template = self.found("task", request.id, context).template
        closure = task_pb2.TaskClosure(compiled_task=compiler_pb2.CompiledTask(template=template))
        return task_pb2.Task(id=request.id, closure=closure)

    def GetWorkflow(self, request: Any, context: Any) -> Any:
        self.found("workflow", request.id, context)
        closure = workflow_pb2.WorkflowClosure(compiled_workflow=self.compiled(request.id))
        return workflow_pb2.Workflow(id=request.id, closure=closure)

    def compiled(self, workflow: Any) -> Any:
        """Return a workflow with all that it is made of."""
        spec, beside = self.found("workflow", workflow), _key("", workflow)
        return compiler_pb2.CompiledWorkflowClosure(
            primary=compiler_pb2.CompiledWorkflow(template=spec.template),
            sub_workflows=[
                compiler_pb2.CompiledWorkflow(template=one) for one in spec.sub_workflows
            ],
            tasks=[
                compiler_pb2.CompiledTask(template=found.template)
                for key, found in self.registered.items()
                if key[0] == "task" and (*key[1:3], key[4]) == (*beside[1:3], beside[4])
            ],
        )

    def GetLaunchPlan(self, request: Any, context: Any) -> Any:
        return self._launch_plan(request.id, context)

    def _launch_plan(self, identifier: Any, context: Any) -> Any:
        spec = self.found("launch plan", identifier, context)
        workflow = self.found("workflow", spec.workflow_id, context)
        closure = launch_plan_pb2.LaunchPlanClosure(
            expected_inputs=spec.default_inputs,
            expected_outputs=workflow.template.interface.outputs,
        )
        return launch_plan_pb2.LaunchPlan(id=identifier, spec=spec, closure=closure)

    def GetActiveLaunchPlan(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.NOT_FOUND, f"No active launch plan: {request.id}")

    def ListLaunchPlans(self, request: Any, context: Any) -> Any:
        asked = _key("launch plan", request.id)[:4]
        latest = [key for key in self.registered if key[:4] == asked]
        found = launch_plan_pb2.LaunchPlanList()
        for kept in latest[-1:]:
            plan = launch_plan_pb2.LaunchPlan()
            plan.id.project, plan.id.domain = request.id.project, request.id.domain
            plan.id.name, plan.id.version, plan.id.resource_type = kept[3], kept[4], 3
            found.launch_plans.append(self._launch_plan(plan.id, context))
        return found

    def CreateExecution(self, request: Any, context: Any) -> Any:
        where = (request.project, request.domain, request.name)
        return self._create(where, request.spec, request.inputs, context)

    def RelaunchExecution(self, request: Any, context: Any) -> Any:
        one = self._asked(request.id, context)
        where = (one.id.project, one.id.domain, request.name)
        return self._create(where, one.spec, one.inputs, context)

    def RecoverExecution(self, request: Any, context: Any) -> Any:
        one = self._asked(request.id, context)
        if one.phase not in OVER - {Phase.SUCCEEDED}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "only what failed can be recovered")
        where = (one.id.project, one.id.domain, request.name)
        return self._create(where, one.spec, one.inputs, context, recovers=one)

    def _create(
        self,
        where: tuple[str, str, str],
        spec: Any,
        inputs: Any,
        context: Any,
        recovers: Execution | None = None,
    ) -> Any:
        identifier = execution_pb2.ExecutionCreateResponse().id
        identifier.project, identifier.domain, name = where
        identifier.name = name or f"a{uuid.uuid4().hex[:19]}"
        if any(one.id == identifier for one in self.executions):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"there is {identifier.name} already")
        if spec.launch_plan.resource_type == 3:
            needed = self.found("launch plan", spec.launch_plan, context).default_inputs.parameters
            missing = [name for name, one in needed.items() if one.required]
            if missing := sorted(set(missing) - set(inputs.literals)):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"missing inputs: {missing}")
        made = Execution(identifier, spec, inputs, recovers)
        self.executions.append(made)
        self.launch(made)
        return execution_pb2.ExecutionCreateResponse(id=identifier)

    def _asked(self, identifier: Any, context: Any) -> Execution:
        found = [one for one in self.executions if one.id == identifier]
        if not found:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no execution {identifier}")
        return found[0]

    def TerminateExecution(self, request: Any, context: Any) -> Any:
        self._asked(request.id, context).change(error=request.cause, phase=Phase.ABORTING)
        return execution_pb2.ExecutionTerminateResponse()

    def GetExecution(self, request: Any, context: Any) -> Any:
        one = self._asked(request.id, context)
        closure = execution_pb2.ExecutionClosure(phase=one.phase)
        if one.phase == Phase.FAILED:
            closure.error.message, closure.error.code = one.error, "USER:Error"
        if one.phase == Phase.ABORTED:
            closure.abort_metadata.cause = one.error
        return execution_pb2.Execution(id=one.id, spec=one.spec, closure=closure)

    def GetExecutionData(self, request: Any, context: Any) -> Any:
        one = self._asked(request.id, context)
        return execution_pb2.WorkflowExecutionGetDataResponse(
            full_inputs=one.inputs, full_outputs=literals_pb2.LiteralMap(literals=one.outputs)
        )

    def ListNodeExecutions(self, request: Any, context: Any) -> Any:
        one, parent = self._asked(request.workflow_execution_id, context), request.unique_parent_id
        listed = node_execution_pb2.NodeExecutionList()
        for path, node in list(one.nodes.items()):
            if path.rpartition("-0-")[0] != parent:
                continue
            row = listed.node_executions.add()
            row.id.node_id = path
            row.id.execution_id.CopyFrom(one.id)
            row.metadata.spec_node_id = path.rpartition("-0-")[2]
            row.closure.phase = node.phase
            if node.phase == NodePhase.FAILED:
                row.closure.error.message = node.reason
        return listed

    def ListTaskExecutions(self, request: Any, context: Any) -> Any:
        asked = request.node_execution_id
        node = self._asked(asked.execution_id, context).nodes[asked.node_id]
        listed = task_execution_pb2.TaskExecutionList()
        for attempt in range(node.attempts):
            row = listed.task_executions.add()
            row.id.node_execution_id.CopyFrom(asked)
            row.id.retry_attempt = attempt
            is_last = attempt == node.attempts - 1
            row.closure.phase = _TASK_PHASES.get(node.phase, 0) if is_last else 4
            row.closure.reason = node.reason if is_last else ""
        return listed

    def GetNodeExecutionData(self, request: Any, context: Any) -> Any:
        node = self._asked(request.id.execution_id, context).nodes[request.id.node_id]
        outputs = literals_pb2.LiteralMap(literals=node.outputs or {})
        return node_execution_pb2.NodeExecutionGetDataResponse(full_outputs=outputs)

    def ListSignals(self, request: Any, context: Any) -> Any:
        one = self._asked(request.workflow_execution_id, context)
        listed = signal_pb2.SignalList()
        for name in sorted(one.asked):
            row = listed.signals.add()
            row.id.signal_id = name
            row.id.execution_id.CopyFrom(one.id)
        return listed

    def SetSignal(self, request: Any, context: Any) -> Any:
        one = self._asked(request.id.execution_id, context)
        one.change(signals=one.signals | {request.id.signal_id: request.value})
        return signal_pb2.SignalSetResponse()

    def GetVersion(self, request: Any, context: Any) -> Any:
        del request, context
        return versions.GetVersionResponse()

    def ListProjects(self, request: Any, context: Any) -> Any:
        del request, context
        return project_pb2.Projects()

    def CreateUploadLocation(self, request: Any, context: Any) -> Any:
        del context
        root = request.filename_root or request.content_md5.hex()
        name = f"{request.project}/{request.domain}/{root}/{request.filename}"
        return dataproxy_pb2.CreateUploadLocationResponse(
            signed_url=f"{self.put_url}/{name}?Signature=x", native_url=f"s3://bucket/{name}"
        )


_TASK_PHASES = {
    NodePhase.QUEUED: phases_pb2.TaskExecution.QUEUED,
    NodePhase.RUNNING: phases_pb2.TaskExecution.RUNNING,
    NodePhase.SUCCEEDED: phases_pb2.TaskExecution.SUCCEEDED,
    NodePhase.ABORTED: phases_pb2.TaskExecution.ABORTED,
    NodePhase.FAILED: phases_pb2.TaskExecution.FAILED,
}


def _key(kind: str, identifier: Any) -> Kind:
    own = ("project", "domain", "name", "version")
    project, domain, name, version = (str(getattr(identifier, part, "")) for part in own)
    return kind, project, domain, name, version


@contextmanager
def serve_admin(folder: Path, put_url: str = "") -> Iterator[tuple[Admin, Path]]:
    """Serve admin, and yield it with the configuration that leads pyflyte to it.

    Args:
        put_url: Where files are uploaded; they are kept in `uploads` without one.
    """
    admin = Admin()

    class Store(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_PUT(self) -> None:
            admin.uploads[self.path.partition("?")[0]] = self.rfile.read(
                int(self.headers["content-length"])
            )
            self.send_response(200)
            self.end_headers()

    store = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    admin.put_url = put_url or f"http://127.0.0.1:{store.server_address[1]}"
    server = grpc.server(ThreadPoolExecutor(8))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    dataproxy_pb2_grpc.add_DataProxyServiceServicer_to_server(admin, server)
    signal_pb2_grpc.add_SignalServiceServicer_to_server(admin, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    config = folder / "flyte.yaml"
    config.write_text(f"admin:\n  endpoint: dns:///127.0.0.1:{port}\n  insecure: true\n")
    try:
        yield admin, config
    finally:
        server.stop(None)
        store.shutdown()
        store.server_close()


def packed(upload: bytes) -> set[str]:
    """Return the names of the files in a code package."""
    with tarfile.open(fileobj=io.BytesIO(upload)) as archive:
        return {member.name for member in archive.getmembers() if member.isfile()}
