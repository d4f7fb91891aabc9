"""`extract_as` as a Flyte task: declared once, found in a pod, wired in a workflow, recorded."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from nemoflows import Extraction, Passage, extract_as
from nemoflows.errors import BadInput
from nemoflows.types import ModelRef, ThinkingPolicy, Tiers
from tests import extractors
from tests.extractors import River, by_hand, read_rivers, rivers
from tests.loopback import ModelServer
from tests.packages import environment, gpus, package
from tests.pods import run_pod, spec
from tests.support import run_command
from tests.test_pods import NEMOTRON, value

ELBE = "Name: Elbe\nLength km: 1,094\n"
TASK: Any = rivers


def reply(name: str, quote: str) -> str:
    absent = {"quote": "", "value": 0}
    record = {"name": {"quote": quote, "value": name}, "length_km": absent}
    return json.dumps({"record": record})


def test_the_task_is_called_like_a_function() -> None:
    (row,) = rivers(passages=by_hand(ELBE))
    assert row.value == River(name="Elbe", length_km=1094)
    assert [ELBE[span.start : span.end] for span in row.spans] == [s.quote for s in row.spans]


def test_no_passages_give_no_rows_and_touch_no_model() -> None:
    nowhere = Tiers(efficient=ModelRef.model_validate("openai:none"))
    assert rivers(passages=[], tiers=nowhere) == []


def test_inputs_output_and_defaults_are_declared() -> None:
    assert TASK.python_interface.inputs == {
        "passages": list[Passage],
        "tiers": Tiers,
        "thinking": ThinkingPolicy,
        "fresh": str,
        "retry_unusable": int,
        "budget_usd": float | None,
        "spent": list[str] | None,
    }
    assert TASK.python_interface.outputs == {"o0": list[Extraction[River]]}
    inputs = spec(TASK).template.interface.inputs.variables
    assert "one request for each" in inputs["passages"].description


def test_the_house_defaults_are_those_of_every_task() -> None:
    assert TASK.metadata.retries == 2
    assert TASK.metadata.cache is False
    assert not TASK.deck_fields
    assert gpus(spec(TASK).template) == ""


def test_a_workflow_chains_it_after_retrieve(corpus: Path) -> None:
    rows = read_rivers(corpus=str(corpus), question="How long is the Elbe?")
    assert rows[0].document == "elbe.md"
    assert len(rows) > 1
    assert all(row.value is not None or row.problem for row in rows)


def test_a_pod_finds_it_by_the_users_module_and_variable(tmp_path: Path) -> None:
    command = list(spec(TASK).template.container.args)
    assert command[-4:] == ["task-module", "tests.extractors", "task-name", "rivers"]
    done = run_pod(TASK, tmp_path / "pod", passages=by_hand(ELBE))
    assert value(done)[0].value == River(name="Elbe", length_km=1094)


def test_a_pod_replays_what_another_one_asked(tmp_path: Path, server: ModelServer) -> None:
    server.replies["fields"] = reply("Elbe", "Elbe")
    env = {"NEMOFLOWS_ENDPOINTS": server.endpoints(), "NEMOFLOWS_JOURNAL": str(tmp_path / "j")}
    tiers = Tiers(efficient=ModelRef.model_validate("local:tiny"))
    rows = [
        value(run_pod(TASK, tmp_path / name, env=env, passages=by_hand(ELBE), tiers=tiers))
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
    tiers = Tiers(efficient=ModelRef.model_validate("local:x"))
    env = {"NEMOFLOWS_ENDPOINTS": json.dumps(dead)}
    done = run_pod(TASK, tmp_path / "pod", env=env, passages=by_hand(ELBE), tiers=tiers)
    assert done.error is not None
    assert done.error.kind == done.error.RECOVERABLE


def test_an_in_process_tier_without_a_gpu_names_the_task(tmp_path: Path) -> None:
    tiers = Tiers(efficient=ModelRef.model_validate(NEMOTRON))
    done = run_pod(TASK, tmp_path / "pod", passages=by_hand(ELBE), tiers=tiers)
    assert done.error is not None
    assert "'tests.rivers'" in done.error.message
    assert "without a GPU" in done.error.message


def test_packaging_gives_it_a_gpu_where_the_tier_is_in_process(tmp_path: Path) -> None:
    templates = package(tmp_path / "p", {"NEMOFLOWS_EFFICIENT": NEMOTRON}, packages="examples")
    assert gpus(templates["receipts"]) == "1"
    assert gpus(templates["as_table"]) == ""
    assert environment(templates["receipts"])["NEMOFLOWS_EFFICIENT"] == NEMOTRON


class Lake(BaseModel):
    name: str


class Sea(BaseModel):
    name: str


def user_module(folder: Path, name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (folder / f"{name}.py").write_text(
        f"from nemoflows import extract_as\nfrom tests.test_extractors import Lake, Sea\n{line}\n"
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
    assert importlib.import_module("tests.extractors") is extractors


@pytest.mark.parametrize("name", ["", "two words", "9lives", "x" * 101, "a/b"])
def test_a_name_that_flyte_could_not_take_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is no task name"):
        extract_as(Lake, name=name)


def test_a_shape_that_cannot_be_bounded_is_refused_before_any_call() -> None:
    class Free(BaseModel):
        anything: dict[str, Any]

    with pytest.raises(BadInput, match=r"Free\.anything cannot be extracted"):
        extract_as(Free, name="free")
    with pytest.raises(BadInput, match="output tokens"):
        extract_as(River, name="narrow", output_tokens=20)


def test_importing_it_brings_no_engine_along() -> None:
    code = "import sys, tests.extractors; assert not {'vllm', 'openai', 'torch'} & set(sys.modules)"
    done = run_command("python", "-c", code)
    assert done.returncode == 0, done.stdout
