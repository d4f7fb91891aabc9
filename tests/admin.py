"""A stand-in for Flyte's admin on loopback, as strict about registered versions as the real one.

Not an engine: it keeps what is registered and started, and runs nothing.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from flyteidl.admin import execution_pb2, launch_plan_pb2, project_pb2, task_pb2, workflow_pb2
from flyteidl.admin import version_pb2 as versions
from flyteidl.core import compiler_pb2
from flyteidl.service import admin_pb2_grpc, dataproxy_pb2, dataproxy_pb2_grpc

Kind = tuple[str, str, str]


class Admin(admin_pb2_grpc.AdminServiceServicer):  # type: ignore[misc]
    """Keeps tasks, workflows, launch plans and executions by name and version."""

    def __init__(self) -> None:
        self.registered: dict[Kind, Any] = {}
        """Specification by kind, name and version."""
        self.n_repeated = 0
        """Registrations of what was there already."""
        self.executions: list[Any] = []
        self.uploads: dict[str, bytes] = {}
        self.put_url = ""

    def names(self, kind: str) -> set[str]:
        return {name for found, name, _ in self.registered if found == kind}

    def versions(self) -> set[str]:
        return {version for _, _, version in self.registered}

    def _keep(self, kind: str, request: Any, context: Any) -> None:
        key = (kind, request.id.name, request.id.version)
        before = self.registered.setdefault(key, request.spec)
        if before is request.spec:
            return
        if before != request.spec:
            what = f"{kind} with different structure already exists with id {request.id}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)
        self.n_repeated += 1
        context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{kind} with identical structure exists")

    def _found(self, kind: str, identifier: Any, context: Any) -> Any:
        found = self.registered.get((kind, identifier.name, identifier.version))
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no {kind} {identifier}")
        return found

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

    def GetWorkflow(self, request: Any, context: Any) -> Any:
        spec = self._found("workflow", request.id, context)
        tasks = [
            compiler_pb2.CompiledTask(template=found.template)
            for (kind, _, version), found in self.registered.items()
            if kind == "task" and version == request.id.version
        ]
        closure = compiler_pb2.CompiledWorkflowClosure(
            primary=compiler_pb2.CompiledWorkflow(template=spec.template),
            sub_workflows=[
                compiler_pb2.CompiledWorkflow(template=one) for one in spec.sub_workflows
            ],
            tasks=tasks,
        )
        return workflow_pb2.Workflow(
            id=request.id, closure=workflow_pb2.WorkflowClosure(compiled_workflow=closure)
        )

    def GetLaunchPlan(self, request: Any, context: Any) -> Any:
        return self._launch_plan(request.id, context)

    def _launch_plan(self, identifier: Any, context: Any) -> Any:
        spec = self._found("launch plan", identifier, context)
        workflow = self._found("workflow", spec.workflow_id, context)
        closure = launch_plan_pb2.LaunchPlanClosure(
            expected_inputs=spec.default_inputs,
            expected_outputs=workflow.template.interface.outputs,
        )
        return launch_plan_pb2.LaunchPlan(id=identifier, spec=spec, closure=closure)

    def GetActiveLaunchPlan(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.NOT_FOUND, f"No active launch plan: {request.id}")

    def ListLaunchPlans(self, request: Any, context: Any) -> Any:
        latest = [key for key in self.registered if key[:2] == ("launch plan", request.id.name)]
        found = launch_plan_pb2.LaunchPlanList()
        for _, name, version in latest[-1:]:
            plan = launch_plan_pb2.LaunchPlan()
            plan.id.project, plan.id.domain = request.id.project, request.id.domain
            plan.id.name, plan.id.version, plan.id.resource_type = name, version, 3
            found.launch_plans.append(self._launch_plan(plan.id, context))
        return found

    def CreateExecution(self, request: Any, context: Any) -> Any:
        del context
        self.executions.append(request)
        made = execution_pb2.ExecutionCreateResponse()
        made.id.project, made.id.domain = request.project, request.domain
        made.id.name = request.name or f"e{len(self.executions)}"
        return made

    def GetExecution(self, request: Any, context: Any) -> Any:
        del context
        found = execution_pb2.Execution(id=request.id)
        found.spec.CopyFrom(self.executions[-1].spec)
        return found

    def GetVersion(self, request: Any, context: Any) -> Any:
        del request, context
        return versions.GetVersionResponse()

    def ListProjects(self, request: Any, context: Any) -> Any:
        del request, context
        return project_pb2.Projects()


class _DataProxy(dataproxy_pb2_grpc.DataProxyServiceServicer):  # type: ignore[misc]
    def __init__(self, admin: Admin) -> None:
        self.admin = admin

    def CreateUploadLocation(self, request: Any, context: Any) -> Any:
        del context
        root = request.filename_root or request.content_md5.hex()
        name = f"{request.project}/{request.domain}/{root}/{request.filename}"
        return dataproxy_pb2.CreateUploadLocationResponse(
            signed_url=f"{self.admin.put_url}/{name}", native_url=f"s3://bucket/{name}"
        )


@contextmanager
def serve_admin(folder: Path) -> Iterator[tuple[Admin, Path]]:
    """Serve admin, and yield it with the configuration that leads pyflyte to it."""
    admin = Admin()

    class Store(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_PUT(self) -> None:
            admin.uploads[self.path] = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

    store = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    admin.put_url = f"http://127.0.0.1:{store.server_address[1]}"
    server = grpc.server(ThreadPoolExecutor(8))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    dataproxy_pb2_grpc.add_DataProxyServiceServicer_to_server(_DataProxy(admin), server)
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
