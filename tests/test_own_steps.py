"""Steps of a user's own as Flyte tasks: found in pods, cascaded in the graph, recorded, priced."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flytekit.tools.translator import get_serializable
from pydantic import BaseModel

from nemoflows import Extraction, Passage, Policy, ask_as, bind, extract_as
from nemoflows.errors import BadInput
from nemoflows.rag.types import Passages
from nemoflows.tasks.rows import RowTask, StepTask
from tests import own_steps
from tests.loopback import ModelServer
from tests.own_steps import Mail, River, Topic, Triage, by_hand, rivers, topics, triage
from tests.packages import environment, gpus, package
from tests.pods import SETTINGS, run_pod, spec
from tests.support import run_command
from tests.test_pods import NEMOTRON, value

ELBE = "Name: Elbe\nLength km: 1,094\n"
TASK: Any = rivers
MAILS = [Mail(subject=f"mail {n}", body=f"Number {n}, for the web team.") for n in range(3)]
TIERS = Policy.model_validate({"efficient": "near:tiny", "frontier": "far:tiny"})


def reply(name: str, quote: str) -> str:
    absent = {"quote": "", "value": 0}
    record = {"name": {"quote": quote, "value": name}, "length_km": absent}
    return json.dumps({"record": record})


def told(team: str) -> str:
    return json.dumps({"urgency": "low", "team": team})


@pytest.fixture
def tiers(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment of two priced tiers on one server, which this process has, too."""
    endpoints = json.loads(server.endpoints("near", usd_per_mtok=[1.0, 2.0]))
    endpoints |= json.loads(server.endpoints("far", usd_per_mtok=[10.0, 20.0]))
    env = {
        "NEMOFLOWS_ENDPOINTS": json.dumps(endpoints),
        "NEMOFLOWS_JOURNAL": str(tmp_path / "journal"),
        "NEMOFLOWS_RUN": "own",
    }
    for name, given in env.items():
        monkeypatch.setenv(name, given)
    return env


def says(server: ModelServer, near: Callable[[str], str], far: str = told("web")) -> None:
    """Let the efficient tier answer what a prompt gives, and the frontier after it the other."""
    seen: set[str] = set()

    def script(_: str, body: dict[str, Any]) -> str:
        text = json.dumps(body["messages"])
        first = text not in seen
        seen.add(text)
        return near(text) if first else far

    server.script = script


def of_mail_1(text: str) -> str:
    return told("shop" if "Number 1" in text else "web")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the bodies that run from now on."""
    names: list[str] = []
    execute = RowTask.execute

    def counted(self: RowTask, **inputs: Any) -> Any:
        names.append(self.name)
        return execute(self, **inputs)

    monkeypatch.setattr(RowTask, "execute", counted)
    return names


def test_the_task_is_called_like_a_function() -> None:
    (row,) = rivers(rows=by_hand(ELBE))
    assert row.value == River(name="Elbe", length_km=1094)
    assert [ELBE[span.start : span.end] for span in row.spans] == [s.quote for s in row.spans]


def test_no_rows_give_no_results_and_touch_no_model() -> None:
    nowhere = Policy.model_validate({"efficient": "openai:none"})
    assert rivers(rows=[], policy=nowhere) == []
    assert own_steps.triage_mails(mails=[], policy=nowhere) == []


def test_inputs_output_and_defaults_are_declared() -> None:
    assert TASK.python_interface.inputs == {"rows": list[Passage] | Passages, "policy": Policy}
    assert TASK.python_interface.outputs == {"o0": list[Extraction[River]]}
    inputs = spec(TASK).template.interface.inputs.variables
    assert "One request or more for each" in inputs["rows"].description
    assert spec(triage).template.interface.inputs.variables.keys() == {"rows", "policy"}


def test_the_house_defaults_are_those_of_every_task() -> None:
    for task in (TASK, TASK.first, TASK.escalation):
        assert task.metadata.retries == 2
        assert task.metadata.cache is False
        assert not task.deck_fields
        assert gpus(spec(task).template) == ""


def test_a_workflow_chains_it_after_retrieve(corpus: Path) -> None:
    rows = own_steps.read_rivers(corpus=str(corpus), question="How long is the Elbe?")
    assert rows[0].document == "elbe.md"
    assert len(rows) > 1
    assert all(row.value is not None or row.problem for row in rows)


def test_a_pod_finds_it_by_the_users_module_and_variable(tmp_path: Path) -> None:
    command = list(spec(TASK).template.container.args)
    assert command[-4:] == ["task-module", "tests.own_steps", "task-name", "rivers"]
    done = run_pod(TASK, tmp_path / "pod", rows=by_hand(ELBE))
    assert value(done)[0].value == River(name="Elbe", length_km=1094)


def test_a_pod_replays_what_another_one_asked(tmp_path: Path, server: ModelServer) -> None:
    server.replies["fields"] = reply("Elbe", "Elbe")
    env = {"NEMOFLOWS_ENDPOINTS": server.endpoints(), "NEMOFLOWS_JOURNAL": str(tmp_path / "j")}
    policy = Policy.model_validate({"efficient": "local:tiny"})
    rows = [
        value(run_pod(TASK, tmp_path / name, env=env, rows=by_hand(ELBE), policy=policy))
        for name in ("first", "second")
    ]
    assert rows[0] == rows[1]
    assert rows[0][0].value == River(name="Elbe")
    assert len(rows[0][0].calls) == 1
    assert len(server.requests) == 1
    sent = server.requests[0]["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"]["properties"]["record"]["required"] == ["name", "length_km"]


def test_a_passing_error_is_one_that_flyte_retries(tmp_path: Path) -> None:
    dead = {"local": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    policy = Policy.model_validate({"efficient": "local:x"})
    env = {"NEMOFLOWS_ENDPOINTS": json.dumps(dead), "NEMOFLOWS_DEADLINE_S": "3"}
    done = run_pod(TASK, tmp_path / "pod", env=env, rows=by_hand(ELBE), policy=policy)
    assert done.error is not None
    assert done.error.kind == done.error.RECOVERABLE


def test_an_in_process_tier_without_a_gpu_names_the_task(tmp_path: Path) -> None:
    policy = Policy.model_validate({"efficient": NEMOTRON})
    done = run_pod(TASK, tmp_path / "pod", rows=by_hand(ELBE), policy=policy)
    assert done.error is not None
    assert "'tests.rivers'" in done.error.message
    assert "without a GPU" in done.error.message


def test_packaging_gives_it_a_gpu_where_the_tier_is_in_process(tmp_path: Path) -> None:
    templates = package(tmp_path / "p", {"NEMOFLOWS_EFFICIENT": NEMOTRON}, packages="examples")
    assert gpus(templates["receipts"]) == "1"
    assert gpus(templates["as_table"]) == ""
    asked = json.loads(environment(templates["receipts"])["NEMOFLOWS_POLICY"])
    assert asked["efficient"] == NEMOTRON


def nodes(workflow: Any) -> list[Any]:
    """Return the nodes of a workflow as it would be registered."""
    return list(get_serializable(OrderedDict(), SETTINGS, workflow).to_flyte_idl().template.nodes)


def test_a_cascade_is_a_node_and_a_branch_one_side_of_which_starts_no_pod() -> None:
    first, branch = nodes(own_steps.triage_mails)
    assert first.task_node.reference_id.name == "tests.triage.first"
    block = branch.branch_node.if_else
    assert block.case.then_node.task_node.reference_id.name == "tests.triage.escalation"
    assert block.else_node.task_node.reference_id.name == "tests.triage.as_it_is"
    passed_on = spec(triage.as_it_is).template
    assert passed_on.type == "echo"
    assert not passed_on.HasField("container")


@pytest.mark.usefixtures("tiers")
def test_where_nothing_failed_the_frontiers_body_does_not_run(
    server: ModelServer, ran: list[str]
) -> None:
    says(server, lambda _: told("web"))
    results = own_steps.triage_mails(mails=MAILS, policy=TIERS)
    assert [result.value for result in results] == [Triage(urgency="low", team="web")] * 3
    assert ran == ["tests.triage.first"]
    assert len(server.requests) == len(MAILS)


@pytest.mark.usefixtures("tiers")
def test_where_something_failed_it_runs_once_for_exactly_that(
    server: ModelServer, ran: list[str]
) -> None:
    says(server, of_mail_1)
    results = own_steps.triage_mails(mails=MAILS, policy=TIERS)
    assert [result.tier for result in results] == ["efficient", "frontier", "efficient"]
    assert all(result.value == Triage(urgency="low", team="web") for result in results)
    assert [len(result.calls) for result in results] == [1, 2, 1]
    assert ran == ["tests.triage.first", "tests.triage.escalation"]
    assert len(server.requests) == 4


@pytest.mark.usefixtures("tiers")
@pytest.mark.parametrize(("tier", "n_asked", "bodies"), [("efficient", 3, 1), ("frontier", 3, 2)])
def test_a_route_decides_which_bodies_run(
    tier: str, n_asked: int, bodies: int, server: ModelServer, ran: list[str]
) -> None:
    says(server, of_mail_1)
    policy = Policy.model_validate({**dict(TIERS), "routes": {"tests.triage": tier}})
    results = own_steps.triage_mails(mails=MAILS, policy=policy)
    assert {result.tier for result in results} == {tier}
    assert (len(server.requests), len(ran)) == (n_asked, bodies)


@pytest.mark.usefixtures("tiers")
def test_labels_and_records_cascade_too(server: ModelServer) -> None:
    server.script = lambda purpose, _: "" if purpose == "fields" else '{"label": "Billing"}'
    [sorted_one] = own_steps.sort_mails(mails=["an invoice"], policy=TIERS)
    assert (sorted_one.value, sorted_one.confidence) == (Topic.BILLING, 1.0)
    assert len(sorted_one.calls) == 2
    server.replies["fields"] = reply("Elbe", "Elbe")
    [river] = own_steps.rivers_of(passages=by_hand(ELBE), policy=TIERS)
    assert (river.value, river.tier) == (River(name="Elbe"), "efficient")
    routed = Policy.model_validate({**dict(TIERS), "routes": {"tests.rivers": "frontier"}})
    [river] = own_steps.rivers_of(passages=by_hand(ELBE), policy=routed)
    assert (river.tier, river.document) == ("frontier", "hand.txt")


def test_pods_find_the_parts_of_a_cascade_through_their_resolver(
    server: ModelServer, tiers: dict[str, str], tmp_path: Path
) -> None:
    says(server, of_mail_1)
    args = list(spec(triage.escalation).template.container.args)
    where = ["task-module", "tests.own_steps", "task-name", "triage", "part", "escalation"]
    assert args[-6:] == where
    pod = run_pod(triage.first, tmp_path / "a", env=tiers, rows=MAILS, policy=TIERS)
    assert value(pod, "goes_on") is True
    first = value(pod, "results")
    assert [result.low_confidence for result in first] == ["", "mail 1 names no team 'shop'.", ""]
    merged = value(
        run_pod(
            triage.escalation, tmp_path / "b", env=tiers, rows=MAILS, results=first, policy=TIERS
        )
    )
    assert [result.tier for result in merged] == ["efficient", "frontier", "efficient"]
    assert len(server.requests) == 4
    [label] = value(run_pod(topics, tmp_path / "c", rows=["a web page"]))
    assert label.value == Topic.WEB


def test_pyflyte_runs_a_cascade_and_its_run_has_a_report(
    server: ModelServer, tiers: dict[str, str], tmp_path: Path
) -> None:
    says(server, of_mail_1)
    policy = str(TIERS.model_copy(update={"budget_usd": 1.0, "shadow_share": 1.0}))
    mails = json.dumps([mail.body for mail in MAILS])
    words = ["pyflyte", "run", "tests/own_steps.py", "triage_texts"]
    done = run_command(*words, "--mails", mails, "--policy", policy, env=tiers)
    assert done.returncode == 0, done.stdout
    assert "tier='frontier'" in done.stdout
    assert len(server.requests) == 6, "three mails, one again, and two more for the shadow sample"
    page = tmp_path / "own.html"
    done = run_command("nemoflows", "report", "own", "--output", page, env=tiers)
    assert "for 4 calls" in done.stdout, done.stdout
    assert "shadow sample: 2 calls" in done.stdout
    html = page.read_text("utf-8")
    assert "tests.texts" in html
    assert "all frontier (far:tiny)" in html
    assert "3 of 3 calls of the efficient tier were asked of the frontier too" in html
    assert len(server.requests) == 6, "looking is free"


@pytest.mark.usefixtures("tiers")
def test_what_no_longer_fits_the_budget_is_data_and_its_pod_goes_on(
    server: ModelServer,
) -> None:
    says(server, lambda _: told("web"))
    policy = TIERS.model_copy(update={"budget_usd": 0.000001})
    results = own_steps.triage_mails(mails=MAILS, policy=policy)
    assert all("over_budget: Of the budget of $0.000001" in result.problem for result in results)
    assert server.requests == []


HARDWARE = bind(Policy.model_validate({"efficient": NEMOTRON}), gpu="h100", name="own")
of_nemotron = ask_as("{text}", returns=str, name="tests.of_nemotron", row=str, bound=HARDWARE)


def test_a_step_is_bound_where_its_factory_is_given_a_binding() -> None:
    for task in (of_nemotron, of_nemotron.first):
        template = spec(task).template
        assert gpus(template) == "1"
        assert json.loads(environment(template)["NEMOFLOWS_POLICY"])["efficient"] == NEMOTRON
        assert template.interface.inputs.variables.keys() == {"rows", "policy"}
    assert gpus(spec(of_nemotron.escalation).template) == ""
    inputs = own_steps.of_large.python_interface.inputs_with_defaults
    assert str(inputs["policy"][1].efficient) == "fake:large"


def test_an_unbound_step_in_a_pod_that_knows_no_binding_is_refused() -> None:
    unknown = dataclasses.replace(triage.binding, is_known=False)
    made: StepTask[Any] = StepTask(triage.step, unknown)
    for task in (made, made.first, made.escalation):
        with pytest.raises(BadInput, match="to the step's factory as bound="):
            spec(task)


class Lake(BaseModel):
    name: str


class Sea(BaseModel):
    name: str


def user_module(folder: Path, name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (folder / f"{name}.py").write_text(
        f"from nemoflows import extract_as\nfrom tests.test_own_steps import Lake, Sea\n{line}\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_two_extractors_of_one_name_are_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = 'x = extract_as(Lake, name="twice")'
    user_module(tmp_path, "one_flow", line, monkeypatch)
    with pytest.raises(BadInput, match=r"'twice': one_flow \(line 3\) and other_flow \(line 3\)"):
        user_module(tmp_path, "other_flow", line, monkeypatch)
    both = 'a = extract_as(Lake, name="same")\nb = extract_as(Sea, name="same")'
    with pytest.raises(BadInput, match=r"'same': third_flow \(line 3\) and third_flow \(line 4\)"):
        user_module(tmp_path, "third_flow", both, monkeypatch)


def test_one_line_run_for_two_models_is_two_extractors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = 'made = [extract_as(model, name="loop") for model in (Lake, Sea)]'
    with pytest.raises(BadInput, match="'loop'"):
        user_module(tmp_path, "loop_flow", line, monkeypatch)


def test_a_module_that_is_loaded_again_is_no_clash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = user_module(tmp_path, "again_flow", 'x = extract_as(Lake, name="again")', monkeypatch)
    first = module.x
    assert importlib.reload(module).x is not first
    path = tmp_path / "again_flow.py"
    path.write_text(path.read_text().replace("x = ", "\n\nx = ").replace("Lake, n", "Sea, n"))
    importlib.reload(module)
    assert importlib.import_module("tests.own_steps") is own_steps


@pytest.mark.parametrize("name", ["", "two words", "9lives", "x" * 101, "a/b"])
def test_a_name_that_flyte_could_not_take_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is not a valid name of a step"):
        extract_as(Lake, name=name)


def test_a_shape_that_cannot_be_bounded_is_refused_before_any_call() -> None:
    class Free(BaseModel):
        anything: dict[str, Any]

    with pytest.raises(BadInput, match=r"Free\.anything cannot be extracted"):
        extract_as(Free, name="free")
    with pytest.raises(BadInput, match="output tokens"):
        extract_as(River, name="narrow", output_tokens=20)


def test_importing_it_brings_no_engine_along() -> None:
    code = "import sys, tests.own_steps; assert not {'vllm', 'openai', 'torch'} & set(sys.modules)"
    done = run_command("python", "-c", code)
    assert done.returncode == 0, done.stdout
