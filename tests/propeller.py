"""Walks an execution's compiled closure as Flyte's propeller does: what follows what, not pods."""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgpack
from flyteidl.core import condition_pb2, literals_pb2

from tests.admin import Admin, Execution, Literals, NodePhase, NodeRun, Phase

Job = Any
"""flyteidl's DynamicJobSpec."""
RunTask = Callable[[Execution, Any, Literals, str, int, int | None], Literals | Job]
"""Runs a task's pods: the execution, the template, inputs, the node's path, how often it may be
tried again, and the number of the item where it is mapped. Returns outputs, or what it wants run.
"""
_GOES_ON = 1
"""flyteidl's FAIL_AFTER_EXECUTABLE_NODES_COMPLETE."""
START = ""
"""Names a workflow's own inputs."""


class Failed(Exception):
    """A node ended without outputs."""


class Aborted(Exception):
    """The execution was ended from outside, or by another node's failure."""


def walk(admin: Admin, execution: Execution, run_task: RunTask) -> None:
    """Run an execution to its end."""
    execution.change(phase=Phase.RUNNING)
    started = execution.spec.launch_plan
    try:
        if started.resource_type == 1:
            template = admin.found("task", started).template
            made = _Walk(execution, run_task, [template], [])
            outputs = made.task(template, dict(execution.inputs.literals), "n0", 0)
        else:
            plan = admin.found("launch plan", started)
            closure = admin.compiled(plan.workflow_id)
            tasks = [one.template for one in closure.tasks]
            made = _Walk(
                execution, run_task, tasks, [one.template for one in closure.sub_workflows]
            )
            outputs = made.workflow(closure.primary.template, with_defaults(plan, execution), "")
        execution.change(outputs=outputs, phase=Phase.SUCCEEDED)
    except Exception as error:
        was_aborted = execution.phase == Phase.ABORTING
        execution.change(
            error=execution.error or str(error),
            phase=Phase.ABORTED if was_aborted else Phase.FAILED,
        )
        if not isinstance(error, Failed | Aborted):
            raise


def with_defaults(plan: Any, execution: Execution) -> Literals:
    """Return the inputs of a launch plan's execution."""
    known = plan.default_inputs.parameters.items()
    usual = {name: one.default for name, one in known if one.HasField("default")}
    return usual | dict(execution.inputs.literals) | dict(plan.fixed_inputs.literals)


class _Walk:
    def __init__(
        self, execution: Execution, run_task: RunTask, tasks: Sequence[Any], others: Sequence[Any]
    ) -> None:
        self.execution, self.run_task = execution, run_task
        self.tasks = {one.id.name: one for one in tasks}
        self.workflows = {one.id.name: one for one in others}
        self.goes_on = False
        """Whether a failure leaves alone what runs beside it."""

    def workflow(self, template: Any, inputs: Literals, path: str) -> Literals:
        """Run a workflow's nodes, each as soon as what it needs is there; return its outputs."""
        self.goes_on |= template.metadata.on_failure == _GOES_ON
        found = self._nodes(template.nodes, inputs, path)
        return {one.var: resolved(one.binding, found) for one in template.outputs}

    def _nodes(self, nodes: Sequence[Any], inputs: Literals, path: str) -> dict[str, Literals]:
        done: dict[str, Future[Literals]] = {one.id: Future() for one in nodes}

        def run(node: Any) -> None:
            try:
                known = {name: done[name].result() for name in needs(node) - {START}}
                done[node.id].set_result(self._node(node, known | {START: inputs}, path))
            except BaseException as error:  # noqa: BLE001  (whoever waits is told)
                done[node.id].set_exception(error)

        with ThreadPoolExecutor(max(1, len(nodes))) as threads:
            list(threads.map(run, nodes))
        for error in sorted(filter(None, (one.exception() for one in done.values())), key=_rank):
            raise error
        return {name: one.result() for name, one in done.items()} | {START: inputs}

    def _node(self, node: Any, known: dict[str, Literals], parent: str) -> Literals:
        """Run one node, or take its outputs over from the execution that is recovered."""
        if self.execution.is_ending:
            raise Aborted
        path = f"{parent}-0-{node.id}" if parent else node.id
        before = self.execution.recovers and self.execution.recovers.nodes.get(path)
        record = self.execution.nodes[path] = NodeRun()
        if before and before.outputs is not None:
            record.phase, record.outputs = NodePhase.RECOVERED, before.outputs
            return before.outputs
        record.phase = NodePhase.RUNNING
        inputs = {one.var: resolved(one.binding, known) for one in node.inputs}
        with self._told(record):
            record.outputs = self._done(node, inputs, known, path)
            record.phase = NodePhase.SUCCEEDED
        return record.outputs

    @contextlib.contextmanager
    def _told(self, record: NodeRun) -> Iterator[None]:
        try:
            yield
        except Aborted:
            record.phase = NodePhase.ABORTED
            raise
        except Exception as error:
            record.phase, record.reason = NodePhase.FAILED, str(error)
            # Flyte's usual policy: the first failure ends what runs beside it.
            if not self.execution.is_ending and not self.goes_on:
                self.execution.change(error=str(error), phase=Phase.FAILING)
            raise

    def _done(self, node: Any, inputs: Literals, known: dict[str, Literals], path: str) -> Literals:
        match node.WhichOneof("target"):
            case "task_node":
                template = self.tasks[node.task_node.reference_id.name]
                return self.task(template, inputs, path, node.metadata.retries.retries)
            case "workflow_node":
                name = node.workflow_node.sub_workflow_ref.name
                return self.workflow(self.workflows[name], inputs, path)
            case "branch_node":
                return self._branch(node.branch_node.if_else, inputs, known, path)
            case "gate_node":
                return self._gate(node.gate_node, inputs)
            case "array_node":
                return self._array(node.array_node, inputs, path)
            case other:
                raise NotImplementedError(f"a node of the kind {other}")

    def task(
        self, template: Any, inputs: Literals, path: str, retries: int, item: int | None = None
    ) -> Literals:
        """Run a task, and what it asks for where it is `@dynamic`."""
        if template.type == "echo":  # a plugin of propeller's own: no pod
            [output] = template.interface.outputs.variables
            return {output: next(iter(inputs.values()))}
        before = self.execution.recovers and self.execution.recovers.nodes.get(path)
        job = before.job if before else None
        found = job or self.run_task(self.execution, template, inputs, path, retries, item)
        if isinstance(found, dict):
            return found
        self.execution.nodes.setdefault(path, NodeRun()).job = found
        inner = _Walk(self.execution, self.run_task, found.tasks, found.subworkflows)
        known = inner._nodes(found.nodes, {}, path)
        return {one.var: resolved(one.binding, known) for one in found.outputs}

    def _branch(
        self, cases: Any, inputs: Literals, known: dict[str, Literals], path: str
    ) -> Literals:
        for case in (cases.case, *cases.other):
            if holds(case.condition, inputs):
                return self._node(case.then_node, known, path)
        if cases.HasField("else_node"):
            return self._node(cases.else_node, known, path)
        raise Failed(cases.error.message or "no branch was taken")

    def _gate(self, gate: Any, inputs: Literals) -> Literals:
        condition = gate.WhichOneof("condition")
        name = getattr(gate, condition).signal_id
        self.execution.asked.add(name)
        with self.execution.changed:
            self.execution.changed.wait_for(
                lambda: self.execution.is_ending or name in self.execution.signals
            )
        if name not in self.execution.signals:
            raise Aborted
        given = self.execution.signals[name]
        if condition == "signal":
            return {gate.signal.output_variable_name: given}
        if not given.scalar.primitive.boolean:
            raise Failed("received a reject signal")
        return inputs

    def _array(self, array: Any, inputs: Literals, path: str) -> Literals:
        fixed = set(array.bound_inputs)
        lengths = {
            len(one.collection.literals)
            for name, one in inputs.items()
            if name not in fixed and one.HasField("collection")
        }
        [n_items] = lengths
        template = self.tasks[array.node.task_node.reference_id.name]
        retries = array.node.metadata.retries.retries

        def run(item: int) -> Literals:
            return self.task(template, inputs, path, retries, item)

        with ThreadPoolExecutor(array.parallelism or max(1, n_items)) as threads:
            items = list(threads.map(run, range(n_items)))
        gathered = {}
        for name in template.interface.outputs.variables:
            gathered[name] = literals_pb2.Literal()
            gathered[name].collection.literals.extend(one[name] for one in items)
            gathered[name].collection.SetInParent()
        return gathered


def _rank(error: BaseException) -> int:
    """Return the place of an error: what failed is told before what it aborted."""
    return int(isinstance(error, Aborted))


def needs(message: Any) -> set[str]:
    """Return the nodes whose outputs a node uses, or that it is to wait for."""
    found = set(getattr(message, "upstream_node_ids", ()))
    if message.DESCRIPTOR.name == "OutputReference":
        return {message.node_id}
    for kind, value in message.ListFields():
        if kind.message_type is None or kind.message_type.name in {"Literal", "Struct"}:
            continue
        is_map = kind.message_type.GetOptions().map_entry
        many = kind.is_repeated
        values = value.values() if is_map else value if many else [value]
        found |= {name for one in values if hasattr(one, "ListFields") for name in needs(one)}
    return found


def resolved(binding: Any, known: dict[str, Literals]) -> Any:
    """Return the literal that a binding stands for."""
    kind, made = binding.WhichOneof("value"), literals_pb2.Literal()
    if kind == "promise":
        whole = known[binding.promise.node_id][binding.promise.var]
        return _part(whole, binding.promise.attr_path)
    if kind == "scalar":
        made.scalar.CopyFrom(binding.scalar)
    elif kind == "collection":
        made.collection.SetInParent()
        made.collection.literals.extend(resolved(one, known) for one in binding.collection.bindings)
    elif kind == "map":
        made.map.SetInParent()
        for name, one in binding.map.bindings.items():
            made.map.literals[name].CopyFrom(resolved(one, known))
    return made


def _part(literal: Any, path: Sequence[Any]) -> Any:
    """Return what lies at a path in an output, in the form that the output has."""
    if not path:
        return literal
    found = msgpack.unpackb(literal.scalar.binary.value)
    for step in path:
        found = found[getattr(step, step.WhichOneof("value"))]
    made = literals_pb2.Literal()
    made.scalar.binary.value, made.scalar.binary.tag = msgpack.packb(found), "msgpack"
    return made


_COMPARED = {
    condition_pb2.ComparisonExpression.EQ: operator.eq,
    condition_pb2.ComparisonExpression.NEQ: operator.ne,
    condition_pb2.ComparisonExpression.GT: operator.gt,
    condition_pb2.ComparisonExpression.GTE: operator.ge,
    condition_pb2.ComparisonExpression.LT: operator.lt,
    condition_pb2.ComparisonExpression.LTE: operator.le,
}


def holds(condition: Any, inputs: Literals) -> bool:
    """Return whether a branch's condition is so."""
    if condition.HasField("comparison"):
        one = condition.comparison
        sides = (_operand(one.left_value, inputs), _operand(one.right_value, inputs))
        return bool(_COMPARED[one.operator](*sides))
    both = condition.conjunction
    left, right = holds(both.left_expression, inputs), holds(both.right_expression, inputs)
    is_and = both.operator == condition_pb2.ConjunctionExpression.AND
    return (left and right) if is_and else (left or right)


def _operand(operand: Any, inputs: Literals) -> Any:
    kind = operand.WhichOneof("val")
    value = inputs[operand.var].scalar.primitive if kind == "var" else getattr(operand, kind)
    primitive = value.primitive if kind == "scalar" else value
    return getattr(primitive, primitive.WhichOneof("value"))


def start(admin: Admin, run_task: RunTask) -> None:
    """Have what admin is asked for run, each execution on a thread of its own."""

    def launch(execution: Execution) -> None:
        arguments = (admin, execution, run_task)
        threading.Thread(target=walk, args=arguments, daemon=True).start()

    admin.launch = launch
