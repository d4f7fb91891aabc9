"""Our tasks in every composition of Flyte, as a user writes it, and no body that runs in vain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.tools.translator import get_serializable
from pydantic import BaseModel

from nemoflows import Answer, Finding, Passages, Policy, Quotes, build_index, retrieve
from nemoflows.workflows.rag import answer_question
from tests import compositions

ELBE = "How long is the Elbe?"
BREAD = "How long does rye bread keep?"
SENTENCES = "The Elbe rises in the Giant Mountains of Bohemia. It is 1,094 kilometres long."
COMPOSED: list[Any] = [
    compositions.quote_each,
    compositions.quote_each_plainly,
    compositions.brief,
    compositions.brief_of_one,
    compositions.brief_of_two,
    compositions.as_many_as_there_are,
    compositions.while_it_is_worth_it,
    compositions.look_again,
    compositions.on_a_larger_gpu,
    compositions.whole,
    compositions.imperative,
]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_HOME", str(tmp_path / "home"))


@pytest.fixture
def passages(corpus: Path) -> list[Passages]:
    index = build_index(corpus=str(corpus))
    return [retrieve(question=question, index=index, k=3) for question in (ELBE, BREAD)]


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Return the tasks whose bodies ran, each with what it returned."""
    ran: list[tuple[str, Any]] = []
    run: Callable[..., Any] = PythonTask.dispatch_execute

    def noted(task: Any, *given: Any) -> Any:
        outputs = run(task, *given)
        ran.append((task.name.rpartition(".")[2], outputs))
        return outputs

    monkeypatch.setattr(PythonTask, "dispatch_execute", noted)
    return ran


def script(folder: Path, name: str, **replies: dict[str, Any]) -> str:
    """Return the spelling of a fake model that says the same whenever a step asks."""
    rules = [{"purpose": step, "reply": json.dumps(said)} for step, said in replies.items()]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rules))
    return f"fake:{path}"


@pytest.mark.parametrize("value", [Answer, Finding, Passages, Quotes])
def test_a_value_gives_flyte_the_schema_that_pydantic_makes(value: type[BaseModel]) -> None:
    made: Callable[..., Any] = vars(BaseModel)["model_json_schema"].__func__
    value.model_json_schema().clear()
    assert json.dumps(value.model_json_schema()) == json.dumps(made(value))
    assert value.model_json_schema(mode="serialization") == made(value, mode="serialization")


@pytest.mark.parametrize("composed", [compositions.quote_each, compositions.quote_each_plainly])
def test_extract_is_mapped_over_many(composed: Any, passages: list[Passages]) -> None:
    quotes: list[Quotes] = composed(passages=passages)
    assert [each.question for each in quotes] == [ELBE, BREAD]
    assert "1,094" in quotes[0].evidence[0].quote
    assert "week" in quotes[1].evidence[0].quote


def test_synthesise_takes_many_findings(corpus: Path) -> None:
    written = compositions.brief(questions=[ELBE, BREAD], corpus=str(corpus), about=ELBE)
    assert {citation.document for citation in written.citations} >= {"elbe.md"}
    assert [finding.question for finding in written.findings] == [ELBE, BREAD]


def test_synthesise_takes_one_finding(corpus: Path) -> None:
    written = compositions.brief_of_one(question=ELBE, corpus=str(corpus))
    assert (written.question, len(written.findings)) == (ELBE, 1)
    assert "1,094" in written.text


def test_synthesise_takes_findings_listed_in_the_code(corpus: Path) -> None:
    written = compositions.brief_of_two(first=ELBE, second=BREAD, corpus=str(corpus))
    assert (written.question, len(written.findings)) == (ELBE, 2)


def test_several_findings_need_the_question(corpus: Path) -> None:
    with pytest.raises(Exception, match=r"findings on 2 questions.*No call was made"):
        compositions.brief(questions=[ELBE, BREAD], corpus=str(corpus), about="")


def test_dynamic_starts_as_many_tasks_as_there_are_questions(corpus: Path) -> None:
    found: list[Finding] = compositions.as_many_as_there_are(
        questions=[ELBE, BREAD], corpus=str(corpus)
    )
    assert [finding.question for finding in found] == [ELBE, BREAD]
    assert all(finding.evidence for finding in found)


def test_eager_calls_them_like_functions(corpus: Path) -> None:
    written: Answer = asyncio.run(
        compositions.while_it_is_worth_it(question=ELBE, corpus=str(corpus))
    )
    assert "1,094" in written.text


def models(folder: Path, *, finds: bool) -> Policy:
    """Return two models of which the frontier finds the answer, and the efficient one may."""
    plan, said = {"questions": [ELBE]}, {"summary": "So it is."}
    found = {"quotes": [{"passage": "P1", "quote": SENTENCES}]}
    quotes = found if finds else {"quotes": []}
    written = {"sentences": [{"text": "It is 1,094 kilometres long.", "citations": [1]}]}
    efficient = script(folder, "near", extract=quotes, rewrite={"query": ""}, summarise=said)
    frontier = script(folder, "far", plan=plan, extract=found, summarise=said, synthesise=written)
    return Policy.model_validate({"efficient": efficient, "frontier": frontier})


@pytest.mark.parametrize(("finds", "tier"), [(True, "efficient"), (False, "frontier")])
def test_a_conditional_asks_the_frontier_only_where_something_failed(
    finds: bool, tier: str, corpus: Path, tmp_path: Path, bodies: list[tuple[str, Any]]
) -> None:
    policy = models(tmp_path, finds=finds)
    known = compositions.look_again(question=ELBE, corpus=str(corpus), policy=policy)
    assert [finding.tier for finding in known.findings] == [tier]
    assert known.findings[0].evidence
    assert ("escalate" in [name for name, _ in bodies]) is not finds


def test_an_imperative_workflow_is_built_of_them(corpus: Path) -> None:
    written = compositions.imperative(question=ELBE, corpus=str(corpus))
    assert "1,094" in written.text


def test_a_workflow_of_ours_is_a_part_of_ones_own(corpus: Path) -> None:
    answered = compositions.whole(question=ELBE, corpus=str(corpus))
    assert "1,094" in answered.answer.text
    assert Path(answered.report).exists()


def registered(composed: Any) -> Any:
    """Return what registering sends to Flyte."""
    image = Image(name="default", fqn="nemoflows", tag="dev")
    settings = SerializationSettings(
        image_config=ImageConfig(image, [image]), project="p", domain="d", version="v"
    )
    return get_serializable({}, settings, composed).template


@pytest.mark.parametrize("composed", COMPOSED, ids=lambda each: each.name.rpartition(".")[2])
def test_every_composition_can_be_registered(composed: Any) -> None:
    assert registered(composed)


def test_a_node_is_given_another_gpu() -> None:
    nodes = {node.id: node for node in registered(compositions.on_a_larger_gpu).nodes}
    [changed] = [n for n in nodes.values() if n.task_node.reference_id.name.endswith(".research")]
    told = changed.task_node.overrides
    assert told.extended_resources.gpu_accelerator.device == "nvidia-h200"
    assert told.resources.limits


@pytest.mark.parametrize("named", [False, True], ids=["without a model", "two models"])
def test_in_the_common_case_no_task_runs_in_vain(
    named: bool, corpus: Path, tmp_path: Path, bodies: list[tuple[str, Any]]
) -> None:
    policy = models(tmp_path, finds=True) if named else Policy()
    answered = answer_question(question=ELBE, corpus=str(corpus), policy=policy)
    assert "1,094" in answered.answer.text
    names = [name for name, _ in bodies]
    assert names == ["build_index", "plan_research", "research", "answer", "report"]
    for name, outputs in bodies:
        assert outputs.literals, name
        for literal in outputs.literals.values():
            scalar = literal.scalar
            assert scalar.blob or scalar.binary or scalar.primitive, f"{name} returned nothing"


def test_what_failed_is_looked_at_again_in_the_pod_that_answers(
    corpus: Path, tmp_path: Path, bodies: list[tuple[str, Any]]
) -> None:
    policy = models(tmp_path, finds=False)
    answered = answer_question(question=ELBE, corpus=str(corpus), policy=policy).answer
    assert [finding.tier for finding in answered.findings] == ["frontier"]
    names = [name for name, _ in bodies]
    assert names == ["build_index", "plan_research", "research", "answer", "report"]
