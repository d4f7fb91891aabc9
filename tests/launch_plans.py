"""What `pyflyte run remote-launchplan` makes of a registered workflow, without a cluster.

flytekit's own command runs on the launch plan's protobuf, as a cluster would return it; what it
would send is caught where the call to the cluster begins.
"""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner
from flyteidl.admin import launch_plan_pb2, workflow_pb2
from flytekit import FlyteContextManager, LaunchPlan
from flytekit.clis.sdk_in_container.run import DynamicEntityLaunchCommand, RunLevelParams
from flytekit.configuration import Config
from flytekit.core.type_engine import TypeEngine
from flytekit.models.interface import TypedInterface
from flytekit.models.launch_plan import LaunchPlanSpec
from flytekit.models.literals import LiteralMap
from flytekit.remote import FlyteRemote
from flytekit.remote.entities import FlyteLaunchPlan
from flytekit.tools.translator import get_serializable

from tests.pods import SETTINGS


class Sent(Exception):
    """What an execution would have been created with."""

    def __init__(self, inputs: LiteralMap) -> None:
        super().__init__("sent")
        self.inputs = inputs


def _create_execution(_project: str, _domain: str, _name: str, _spec: Any, inputs: Any) -> None:
    raise Sent(LiteralMap.from_flyte_idl(inputs.to_flyte_idl()))


def _nothing() -> None:
    """Upload no file."""


def fetched(workflow: Any) -> FlyteLaunchPlan:
    """Return a workflow's launch plan as it is fetched: from its protobuf, without Python types."""
    every: OrderedDict[Any, Any] = OrderedDict()
    context = FlyteContextManager.current_context()
    plan = LaunchPlan.get_default_launch_plan(context, workflow)
    made = get_serializable(every, SETTINGS, plan)
    own = next(one for one in every.values() if getattr(one, "template", None) is not None
               and one.template.id.name == workflow.name)  # fmt: skip
    idl = launch_plan_pb2.LaunchPlanSpec.FromString(made.spec.to_flyte_idl().SerializeToString())
    spec = workflow_pb2.WorkflowSpec.FromString(own.to_flyte_idl().SerializeToString())
    found = FlyteLaunchPlan.promote_from_model(made.id, LaunchPlanSpec.from_flyte_idl(idl))
    found._interface = TypedInterface.from_flyte_idl(spec.template.interface)
    return found


def remote_launchplan(workflow: Any, *words: str) -> Any:
    """Run flytekit's command of a registered launch plan; return click's result."""
    command = DynamicEntityLaunchCommand(
        name=workflow.name, h="", entity_name=workflow.name, launcher="lp"
    )
    command._entity = fetched(workflow)
    remote = FlyteRemote(Config.auto(), default_project="p", default_domain="d")
    remote._client = SimpleNamespace(
        create_execution=_create_execution, get_upload_signed_url=_nothing
    )
    remote._client_initialized = True
    options = {field: None for field in RunLevelParams.__dataclass_fields__ if field[0] != "_"}
    given = options | {"project": "p", "domain": "d", "remote": True, "computed_params": None}
    own = RunLevelParams.from_dict(given)
    own._remote = remote
    return CliRunner().invoke(command, list(words), obj=own)


def sent(workflow: Any, *words: str) -> dict[str, Any]:
    """Return what an execution would get, as the workflow reads it: given, else the default."""
    done = remote_launchplan(workflow, *words)
    assert isinstance(done.exception, Sent), (done.output, done.exception)
    parameters = fetched(workflow).default_inputs.parameters
    usual = {name: one.default for name, one in parameters.items() if not one.required}
    literals = LiteralMap(usual | done.exception.inputs.literals)
    context, kinds = FlyteContextManager.current_context(), workflow.python_interface.inputs
    found: dict[str, Any] = TypeEngine.literal_map_to_kwargs(context, literals, kinds)
    return found
