"""A policy as text: by every way into Flyte, whole, and read in sentences."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flytekit import FlyteContextManager, map_task
from flytekit.clis.sdk_in_container.pyflyte import main
from flytekit.core.type_engine import TypeEngine
from hypothesis import given
from hypothesis import strategies as st

import nemoflows
from nemoflows.coding.types import Effort
from nemoflows.errors import BadInput
from nemoflows.sandbox.levels import Limits
from nemoflows.settings import Settings, load
from nemoflows.tasks import POLICY
from nemoflows.types import Policy, Route, Setting
from nemoflows.workflows.approved import answer_question_approved
from nemoflows.workflows.coding import fix_issue, write_function
from nemoflows.workflows.rag import answer_question
from tests import policy_flow
from tests.launch_plans import fetched, remote_launchplan, sent
from tests.support import ROOT, run_command

WORKFLOWS: dict[Any, dict[str, str]] = {
    answer_question: {"question": "Who?", "corpus": "s3://bucket/docs"},
    answer_question_approved: {"question": "Who?", "corpus": "s3://bucket/docs"},
    fix_issue: {"repo": "s3://bucket/repo", "issue": "It is wrong."},
    write_function: {"prompt": "def f(): ...", "tests": "assert f()"},
}
NAMES = {id(one): one.name.rpartition(".")[2] for one in WORKFLOWS}
GIVEN = {"efficient": "local:x", "frontier": "far:y@main", "budget_usd": 0.5, "thinking": "off"}
EXPECTED = Policy.model_validate(GIVEN)


@pytest.mark.parametrize(("word", "expected"), [("off", "off"), ("on", "on"), ("auto", "auto")])
def test_yaml_may_write_thinking_without_quotes(word: str, expected: str) -> None:
    found = read(Policy, f"thinking: {word}\ncache_salt: 2\n")
    assert (found.thinking, found.cache_salt) == (expected, "2")


def through_flyte(kind: type[Setting], value: Any) -> str:
    """Return the text that a value travels as."""
    context, expected = FlyteContextManager.current_context(), TypeEngine.to_literal_type(kind)
    text: str = TypeEngine.to_literal(context, value, kind, expected).scalar.primitive.string_value
    return text


def read(kind: type[Setting], text: str) -> Any:
    """Return the value that a text arrives as."""
    context, expected = FlyteContextManager.current_context(), TypeEngine.to_literal_type(kind)
    literal = TypeEngine.to_literal(context, text, kind, expected)
    return TypeEngine.to_python_value(context, literal, kind)


# Ways in.


def run_locally(*words: str) -> str:
    done = CliRunner().invoke(main, ["run", str(ROOT / "tests" / "policy_flow.py"), *words])
    return f"{done.output}{done.exception or ''}"


def written(folder: Path, name: str, value: object) -> str:
    (folder / name).write_text(json.dumps(value))
    return str(folder / name)


YAML = "{efficient: local:x, frontier: far:y@main, budget_usd: .5, thinking: 'off'}"


@pytest.mark.parametrize("way", ["JSON", "YAML", "lines", "file", "inputs file", "its text"])
def test_a_policy_comes_by_every_way_of_the_command_line(way: str, tmp_path: Path) -> None:
    words = {
        "JSON": ["--policy", json.dumps(GIVEN)],
        "YAML": ["--policy", YAML],
        "lines": ["--policy", YAML[1:-1].replace(", ", "\n")],
        "file": ["--policy", written(tmp_path, "run.yaml", GIVEN)],
        "inputs file": ["--inputs-file", written(tmp_path, "inputs.json", {"policy": GIVEN})],
        "its text": ["--inputs-file", written(tmp_path, "inputs.yaml", {"policy": YAML})],
    }
    assert f"got {EXPECTED}" in run_locally("tell", *words[way])


def test_a_field_that_does_not_exist_is_a_sentence(tmp_path: Path) -> None:
    told = run_locally("tell", "--policy", '{"eficient": "local:x"}')
    sentence = (
        "The policy cannot be used: eficient: Extra inputs are not permitted. It has efficient, "
    )
    assert sentence in " ".join(told.split())
    assert "No call was made." in " ".join(told.split())
    for text, words in {
        '{"budget_usd": -1}': r"budget_usd: Input should be greater than or equal to 0",
        '{"frontier": "gpt-6"}': r"frontier: .*endpoint:name",
        "local:x": r"not JSON or YAML with names and values, nor a file that ends in \.yaml",
        "[1]": "not JSON or YAML with names and values",
        str(tmp_path / "none.yaml"): "cannot be read here .*A pod has no files of yours",
    }.items():
        with pytest.raises(BadInput, match=words):
            read(Policy, text)


def test_a_policy_travels_into_dynamic_and_a_mapped_task() -> None:
    assert f"first {EXPECTED}" in policy_flow.tell_each(questions=["first"], policy=EXPECTED)[0]
    told = map_task(partial(policy_flow.told, policy=EXPECTED))(question=["a", "b"])
    assert told == [f"a {EXPECTED}", f"b {EXPECTED}"]
    assert nemoflows.mapped(policy_flow.told)(question=["a"]) == [f"a {POLICY}"]


def test_without_partial_flytekit_refuses_to_map_over_a_default() -> None:
    with pytest.raises(Exception, match="policy"):
        map_task(policy_flow.told)(question=["a", "b"])


# What is left out.


def test_what_a_text_leaves_out_is_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEMOFLOWS_EFFICIENT", "local:x")
    assert read(Policy, '{"budget_usd": 1}') == Policy.model_validate(
        {"efficient": "local:x", "budget_usd": 1}
    )
    usual = {"efficient": "other:z", "frontier": "far:y", "shadow_share": 0.25}
    for text in (json.dumps(usual), written(tmp_path, "policy.yaml", usual)):
        monkeypatch.setenv("NEMOFLOWS_POLICY", text)
        found = read(Policy, "max_resamples: 2")
        assert found == Policy.model_validate(
            usual | {"efficient": "local:x", "max_resamples": 2}
        ), "the variable of the tier beats the policy's"
        assert read(Policy, "") == load().default_policy()
    monkeypatch.setenv("NEMOFLOWS_FRONTIER", "near:w")
    assert str(read(Policy, "{}").frontier) == "near:w"
    assert str(read(Policy, "{frontier: builtin}").frontier) == "builtin"


SPELLINGS = st.sampled_from(["builtin", "local:x", "far:y@main+lora#fp8", "vllm:org/model"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
POLICIES = st.builds(
    lambda **fields: Policy.model_validate(fields),
    efficient=SPELLINGS,
    frontier=SPELLINGS,
    embedder=st.none() | st.sampled_from(["dense:org/model", "openai:small"]),
    thinking=st.sampled_from(["auto", "off", "on"]),
    budget_usd=st.none() | st.floats(0, 1e9),
    cache_salt=TEXTS,
    max_resamples=st.integers(0, 100),
    shadow_share=st.floats(0, 1),
    routes=st.dictionaries(
        TEXTS,
        st.builds(
            Route,
            tier=st.sampled_from(["efficient", "cascade", "frontier"]),
            threshold=st.none() | st.floats(0, 1),
        ),
        max_size=3,
    ),
)


@given(value=POLICIES, here=POLICIES, there=POLICIES)
def test_what_is_written_means_the_same_under_another_default(
    value: Policy, here: Policy, there: Policy
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMOFLOWS_POLICY", str(here))
        text = through_flyte(Policy, value)
        assert through_flyte(Policy, text) == text
        assert read(Policy, str(value)) == value
        patch.setenv("NEMOFLOWS_POLICY", str(there))
        assert read(Policy, text) == value
        patch.setenv("NEMOFLOWS_EFFICIENT", "other:z")
        assert read(Policy, text) == value


@given(n=st.integers(1, 20), seconds=st.floats(1, 100))
def test_efforts_and_limits_travel_as_text_too(n: int, seconds: float) -> None:
    effort, limits = Effort(candidates=n), Limits(seconds=seconds)
    assert read(Effort, through_flyte(Effort, effort)) == effort
    assert read(Limits, through_flyte(Limits, limits)) == limits
    assert read(Effort, f"candidates: {n}") == effort
    with pytest.raises(BadInput, match=r"The effort cannot be used: tries: .*It has candidates"):
        read(Effort, "tries: 2")


# Registered workflows.


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: NAMES[id(one)])
def test_a_registered_workflow_takes_a_policy_as_text_or_none(workflow: Any) -> None:
    words = [word for name, text in WORKFLOWS[workflow].items() for word in (f"--{name}", text)]
    without = sent(workflow, *words)
    inputs = workflow.python_interface.inputs_with_defaults
    usual = {name: default for name, (_, default) in inputs.items() if default is not None}
    assert without == usual | WORKFLOWS[workflow]
    assert without["policy"] == POLICY
    given = sent(workflow, *words, "--policy", json.dumps(GIVEN))
    assert given == without | {"policy": EXPECTED}
    assert sent(workflow, *words, "--policy", YAML)["policy"] == EXPECTED


@pytest.mark.parametrize("workflow", [fix_issue, write_function], ids=lambda one: NAMES[id(one)])
def test_a_registered_coding_workflow_takes_its_effort_and_limits_as_text(workflow: Any) -> None:
    words = [word for name, text in WORKFLOWS[workflow].items() for word in (f"--{name}", text)]
    more = {"effort": "{candidates: 3}", "min_sandbox": "full"}
    more |= {"limits": '{"seconds": 5}'} if workflow is fix_issue else {}
    found = sent(workflow, *words, *(word for n, text in more.items() for word in (f"--{n}", text)))
    assert found["effort"] == Effort(candidates=3)
    assert found["min_sandbox"] == "full"
    assert found.get("limits", Limits(seconds=5)) == Limits(seconds=5)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: NAMES[id(one)])
def test_a_registered_workflow_explains_itself(workflow: Any) -> None:
    shown = remote_launchplan(workflow, "--help")
    assert shown.exit_code == 0, shown.output
    for name in workflow.python_interface.inputs:
        assert f"--{name}" in shown.output
    assert '"efficient": "builtin"' in " ".join(re.sub("[│|]", " ", shown.output).split())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: NAMES[id(one)])
def test_no_input_is_a_struct_with_a_default_and_there_are_nine_at_most(workflow: Any) -> None:
    plan = fetched(workflow)
    assert len(plan.interface.inputs) <= 9
    for name, parameter in plan.default_inputs.parameters.items():
        scalar = parameter.default.scalar if parameter.default else None
        assert scalar is None or scalar.generic is None, name
        assert scalar is None or scalar.binary is None, name


# Help.


def test_help_fits_a_screen_and_names_the_models() -> None:
    done = run_command(
        "pyflyte", "run", "workflows/rag.py", "answer_question", "--help",
        env={
            "NEMOFLOWS_EFFICIENT": "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8",
            "NEMOFLOWS_FRONTIER": "anthropic:claude-opus-5-5",
            "COLUMNS": "80",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) <= 60
    options = [n for n, line in enumerate(lines) if re.search(r"--\w", line)]
    first = next(n for n in options if "--policy" in lines[n])
    last = next(n for n in options if n > first)
    assert last - first <= 12
    shown = " ".join(" ".join(lines[first:last]).replace("│", " ").split())
    assert "anthropic:claude-opus-5-5" in shown.replace(" ", "")
    assert "as JSON, YAML or the name of such a file" in shown


def test_there_are_at_most_15_variables_and_each_is_documented() -> None:
    assert len(Settings.model_fields) <= 15
    told = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for name in Settings.model_fields:
        assert f"NEMOFLOWS_{name.upper()}" in told
    read = re.findall(r"NEMOFLOWS_[A-Z_]+\b", "\n".join(
        path.read_text() for path in (ROOT / "nemoflows").rglob("*.py")
    ))  # fmt: skip
    known = {f"NEMOFLOWS_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in read if not name.endswith("_")} <= known | {"NEMOFLOWS_"}
    assert os.environ.get("NEMOFLOWS_POLICY") is None
