"""Binding in code: the same tasks for a policy and a GPU that the code names, wherever declared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core import dynamic_job_pb2
from flytekit.tools.translator import get_serializable

import nemoflows
from nemoflows.errors import BadInput, BadModel
from nemoflows.rag.types import Quotes
from nemoflows.search import build_index
from nemoflows.tasks import POLICY
from nemoflows.types import Evidence, Policy
from tests import bound_flows
from tests.bound_flows import CLAUDE, LARGE, SMALL, large, small
from tests.packages import environment, gpus, secret_names
from tests.pods import SETTINGS, prepare_pod, run_pod, spec
from tests.support import ROOT, run_command


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pods nothing of ours but what a task's own environment says."""
    monkeypatch.delenv("NEMOFLOWS_OFFLINE")


def compiled(flow: Any, folder: Path, **inputs: Any) -> dict[str, Any]:
    """Let a pod of a @dynamic workflow compile it; return its tasks' templates by name."""
    command, places = prepare_pod(flow, folder, **inputs)
    done = subprocess.run(command, **places, stderr=subprocess.STDOUT, check=False, timeout=240)
    path = folder / "out" / "futures.pb"
    assert path.exists(), done.stdout.decode()
    found = dynamic_job_pb2.DynamicJobSpec()
    found.ParseFromString(path.read_bytes())
    return {template.id.name: template for template in found.tasks}


def hardware(template: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environment(template)["NEMOFLOWS_HARDWARE"])
    return found


def assert_large(template: Any) -> None:
    """Assert that a task has the GPU, the engine and the models of the binding `large`."""
    assert gpus(template) == "1"
    assert template.extended_resources.gpu_accelerator.device == "nvidia-h100"
    engine = hardware(template)["engine_arguments"]
    assert (engine["max_num_seqs"], engine["seed"]) == (100, 7)
    told = json.loads(environment(template)["NEMOFLOWS_POLICY"])
    assert (told["efficient"], told["frontier"], told["budget_usd"]) == (LARGE, CLAUDE, 2.5)


def test_dynamic_in_a_pod_keeps_gpu_accelerator_engine_and_keys(tmp_path: Path) -> None:
    found = compiled(bound_flows.each, tmp_path / "pod", questions=["Who?", "Where?"])
    named = {name.removeprefix("nemoflows.tasks."): one for name, one in found.items()}
    assert set(named) == {
        f"research.extract.{large.name}",
        "research.summarise.small",
        f"answer.synthesise.{large.name}",
    }
    assert_large(named[f"research.extract.{large.name}"])
    other = named["research.summarise.small"]
    assert (gpus(other), other.extended_resources.gpu_accelerator.device) == ("2", "nvidia-a10g")
    assert hardware(other)["engine_arguments"]["tensor_parallel_size"] == 2
    last = named[f"answer.synthesise.{large.name}"]
    assert gpus(last) == ""
    assert secret_names(last) == ["ANTHROPIC_API_KEY"]
    [secret] = last.security_context.secrets
    assert (secret.group, secret.key) == ("team", "claude")


def test_dynamic_in_a_pod_keeps_them_when_a_task_is_mapped(tmp_path: Path) -> None:
    found = compiled(bound_flows.each_mapped, tmp_path / "pod", questions=["Who?", "Where?"])
    [template] = found.values()
    assert_large(template)


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (bound_flows.unbound, "nemoflows.tasks.research.extract"),
        (bound_flows.unbound_mapped, "nemoflows.tasks.research.extract"),
        (bound_flows.unbound_map_task, "nemoflows.tasks.answer.synthesise"),
        (bound_flows.unbound_index, "nemoflows.tasks.index.build_index"),
        (bound_flows.bound_to_a_gpu_alone, "nemoflows.tasks.research.extract.alone"),
        (bound_flows.bound_to_a_model_alone, "nemoflows.tasks.research.extract.alone"),
    ],
)
def test_an_unbound_task_in_such_a_pod_is_refused(flow: Any, name: str, tmp_path: Path) -> None:
    done = run_pod(flow, tmp_path / "pod", questions=["Who?"])
    assert done.outputs is None
    assert not (tmp_path / "pod" / "out" / "futures.pb").exists()
    assert done.error is not None, done.log
    assert done.error.kind == done.error.NON_RECOVERABLE
    for words in (
        f"The task {name} was declared in a pod that does not know its models and GPU",
        "bound = nemoflows.bind(policy, gpu=…)",
        f"bound.{name.removesuffix('.alone').rpartition('.')[2]}",
        "@dynamic(environment=nemoflows.bind().environment)",
        "No call was made.",
    ):
        assert words in done.error.message


def test_the_remedy_that_the_refusal_names_helps(tmp_path: Path) -> None:
    flow = bound_flows.told_by_its_own_environment
    found = compiled(flow, tmp_path / "pod", questions=["Who?"])
    template = found["nemoflows.tasks.research.extract"]
    assert gpus(template) == "1"
    assert template.extended_resources.gpu_accelerator.device == "nvidia-h100"
    assert hardware(template)["engine_arguments"]["max_num_seqs"] == 100


def test_a_task_that_asks_no_model_needs_no_binding(corpus: Path, tmp_path: Path) -> None:
    index = build_index(str(corpus), str(tmp_path / "index"))
    flow = bound_flows.without_a_model
    found = compiled(flow, tmp_path / "pod", questions=["Who?"], index=index)
    assert list(found) == ["nemoflows.tasks.index.retrieve"]


def test_a_model_that_does_not_fit_is_refused_wherever_it_is_bound() -> None:
    with pytest.raises(BadModel, match="cannot run on t4"):
        nemoflows.bind(Policy.model_validate({"efficient": LARGE}), gpu="t4")


def registered() -> dict[str, Any]:
    """Return the templates that registering the workflow of both bindings would send."""
    every: OrderedDict[Any, Any] = OrderedDict()
    get_serializable(every, SETTINGS, bound_flows.both)
    specs = [one.to_flyte_idl() for one in every.values() if hasattr(one, "template")]
    return {one.template.id.name: one.template for one in specs if hasattr(one.template, "type")}


def test_two_bindings_in_one_workflow_have_names_and_resources_of_their_own() -> None:
    found = registered()
    for step in ("extract", "summarise"):
        one, other = (
            found[f"nemoflows.tasks.research.{step}.{name}"] for name in ("small", large.name)
        )
        assert (gpus(one), gpus(other)) == ("2", "1")
        devices = [task.extended_resources.gpu_accelerator.device for task in (one, other)]
        assert devices == ["nvidia-a10g", "nvidia-h100"]
        told = [json.loads(environment(task)["NEMOFLOWS_POLICY"]) for task in (one, other)]
        assert [policy["efficient"] for policy in told] == [SMALL, LARGE]


def test_a_binding_is_named_by_what_it_is() -> None:
    again = nemoflows.bind(large.policy, gpu="h100", concurrent=100)
    same = nemoflows.bind(large.policy, gpu="h100", concurrent=100)
    other = nemoflows.bind(large.policy, gpu="h100", concurrent=101)
    assert again.name == same.name
    assert len({again.name, other.name, large.name}) == 3


LOAD = """
import sys
from flytekit.tools.module_loader import load_object_from_module
resolver, *rest = sys.argv[1:]
task = load_object_from_module(resolver).load_task(rest)
print(sorted(task.python_interface.inputs.items(), key=str))
print(sorted(task.python_interface.outputs.items(), key=str))
print(task.python_interface.inputs_with_defaults["policy"][1])
"""


def test_a_pod_finds_a_bound_task_through_its_resolver() -> None:
    task = large.extract
    container = spec(task).template.container
    words = list(container.args)
    place = words.index("--resolver")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, words[place + 1], *words[words.index("--") + 1 :]],
        env={pair.key: pair.value for pair in container.env} | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    inputs, outputs, policy = done.stdout.splitlines()
    assert inputs == str(sorted(task.python_interface.inputs.items(), key=str))
    assert outputs == str(sorted(task.python_interface.outputs.items(), key=str))
    assert policy == str(large.policy)


def test_a_bound_task_runs_as_a_pod(tmp_path: Path) -> None:
    own = nemoflows.bind(Policy(cache_salt="mine"), name="mine")
    quote = Evidence(quote="The Elbe is 1,094 km long.", document="elbe.md", start=0, end=26)
    quotes = Quotes(question="How long is the Elbe?", evidence=[quote])
    done = run_pod(own.summarise, tmp_path / "pod", quotes=quotes, policy=own.policy)
    assert done.outputs is not None, done.log
    assert "1,094" in done.outputs["o0"].summary


def test_the_policy_of_a_bound_task_is_its_bindings_unless_it_is_given() -> None:
    for bound in (small, large):
        for name in ("extract", "research", "synthesise", "answer", "solve"):
            inputs = getattr(bound, name).python_interface.inputs_with_defaults
            assert inputs["policy"] == (Policy, bound.policy), name
    own, unbound = nemoflows.bind(Policy(max_resamples=3)), bound_flows.everywhere
    assert unbound.python_interface.inputs_with_defaults["policy"][1] == POLICY != large.policy
    assert own.extract.body is unbound.body
    assert own.extract is own.extract


def test_what_is_no_binding_is_a_sentence() -> None:
    with pytest.raises(BadInput, match=r"does not know gpus; it takes policy, gpu, .*concurrent"):
        nemoflows.bind(gpus="h100")
    with pytest.raises(BadInput, match="No GPU is called 'h1000'"):
        nemoflows.bind(gpu="h1000")
    with pytest.raises(BadInput, match="concurrent: Input should be greater than 0"):
        nemoflows.bind(concurrent=0)
    with pytest.raises(BadInput, match="secrets are named, never given") as caught:
        nemoflows.bind(secrets={"KEY": "sk-canary"})
    assert "canary" not in caught.value.message
    for name in ("Answer", "bind", "nonsense"):
        with pytest.raises(AttributeError, match=name):
            getattr(large, name)


def test_what_does_not_fit_its_gpu_is_refused_when_it_is_registered(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "import nemoflows\nfrom flytekit import workflow\n"
        f"policy = nemoflows.Policy.model_validate({{'efficient': {LARGE!r}}})\n"
        "large = nemoflows.bind(policy, gpu='l4x1')\n\n\n"
        "@workflow\ndef flow(quotes: nemoflows.Quotes) -> nemoflows.Finding:\n"
        "    return large.summarise(quotes=quotes)\n"
    )
    done = run_command(
        "pyflyte", "--pkgs", "flow", "package", "--image", "image:t", "--output",
        tmp_path / "flyte.tgz", "-f", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0
    assert "does not fit 1x l4" in done.stdout
