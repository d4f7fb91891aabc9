"""Tasks as pods run them, and what registering them would ask of a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nemoflows
from nemoflows.rag.types import Research, ResearchPlan
from nemoflows.types import ModelRef, Policy
from tests.loopback import ModelServer
from tests.packages import environment, gpus, package, pyflyte_package
from tests.pods import Finished, run_pod
from tests.support import run_command

NEMOTRON = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
EFFICIENT = {"extract", "summarise", "research", "propose", "repair"}
PATH = {"build_index", "plan_research", "research", "answer", "report"}


def value(done: Finished, name: str = "o0") -> Any:
    assert done.error is None, done.error
    assert done.outputs is not None, done.log
    return done.outputs[name]


def test_every_task_of_the_path_runs_as_a_pod(corpus: Path, tmp_path: Path) -> None:
    question, runs = "How long is the Elbe?", tmp_path / "runs"
    index = value(run_pod(nemoflows.build_index, runs / "index", corpus=str(corpus)))
    plan = value(run_pod(nemoflows.plan_research, runs / "plan", question=question))
    found = run_pod(nemoflows.research, runs / "research", plan=plan, index=index)
    known = value(found, "research")
    assert isinstance(known, Research)
    assert value(found, "failed") is False
    answer = value(run_pod(nemoflows.answer, runs / "answer", research=known, index=index))
    assert "1,094" in answer.text
    done = run_pod(nemoflows.report, runs / "report", answer=answer, index=index)
    html = Path(value(done).path)
    assert "1,094" in html.read_text()
    assert html.is_relative_to(runs / "report" / "raw")
    assert "not durable" in found.log


def test_the_single_steps_run_as_pods(corpus: Path, tmp_path: Path) -> None:
    question, runs = "How long is the Elbe?", tmp_path / "runs"
    index = value(run_pod(nemoflows.build_index, runs / "index", corpus=str(corpus)))
    passages = value(run_pod(nemoflows.retrieve, runs / "a", question=question, index=index))
    assert passages.passages[0].document == "elbe.md"
    quotes = value(run_pod(nemoflows.extract, runs / "b", passages=passages))
    finding = value(run_pod(nemoflows.summarise, runs / "c", quotes=quotes))
    assert "1,094" in finding.summary
    answer = value(run_pod(nemoflows.synthesise, runs / "d", findings=finding))
    assert "1,094" in answer.text
    plan = ResearchPlan(question=question, questions=[question])
    known = Research(plan=plan, findings=[finding])
    again = value(run_pod(nemoflows.escalate, runs / "e", research=known, index=index))
    assert again == known, "nothing failed, and both tiers are the same"


def test_an_error_of_ours_is_final_and_says_what_to_do(tmp_path: Path) -> None:
    done = run_pod(nemoflows.build_index, tmp_path / "pod", corpus=str(tmp_path / "nowhere"))
    assert done.outputs is None
    assert done.error is not None
    assert done.error.kind == done.error.NON_RECOVERABLE
    assert "nowhere" in done.error.message


def test_an_in_process_tier_on_a_task_without_a_gpu_names_both(
    corpus: Path, tmp_path: Path
) -> None:
    index = value(run_pod(nemoflows.build_index, tmp_path / "index", corpus=str(corpus)))
    policy = Policy(efficient=ModelRef.model_validate(NEMOTRON))
    plan = ResearchPlan(question="Who?", questions=["Who?"])
    done = run_pod(nemoflows.research, tmp_path / "pod", plan=plan, index=index, policy=policy)
    assert done.error is not None
    assert done.error.kind == done.error.NON_RECOVERABLE
    for words in (NEMOTRON, "'research'", "without a GPU", "NEMOFLOWS_EFFICIENT"):
        assert words in done.error.message


def test_a_recorded_call_is_replayed_by_the_next_pod(
    corpus: Path, tmp_path: Path, server: ModelServer
) -> None:
    env = {
        "NEMOFLOWS_ENDPOINTS": server.endpoints(),
        "NEMOFLOWS_JOURNAL": str(tmp_path / "journal"),
    }
    policy = Policy(frontier=ModelRef.model_validate("local:tiny"))
    inputs = {"question": "Who?", "policy": policy}
    plans = [
        value(run_pod(nemoflows.plan_research, tmp_path / n, env=env, **inputs))
        for n in ("first", "second")
    ]
    assert plans[0] == plans[1]
    assert len(server.requests) == 1
    assert (corpus / "elbe.md").exists()


def test_without_a_model_no_task_asks_for_a_gpu(tmp_path: Path) -> None:
    templates = package(tmp_path / "p", {})
    assert set(templates) >= PATH
    assert {gpus(template) for template in templates.values()} == {""}
    told = [json.loads(environment(one)["NEMOFLOWS_POLICY"]) for one in templates.values()]
    assert told == [Policy().model_dump(mode="json")] * len(templates)


def test_an_in_process_efficient_tier_puts_a_gpu_on_its_tasks_alone(tmp_path: Path) -> None:
    templates = package(tmp_path / "p", {"NEMOFLOWS_EFFICIENT": NEMOTRON})
    with_gpu = {name for name, template in templates.items() if gpus(template) == "1"}
    assert with_gpu == EFFICIENT & set(templates)
    assert {gpus(templates[name]) for name in set(templates) - with_gpu} == {""}
    told = json.loads(environment(templates["research"])["NEMOFLOWS_POLICY"])
    assert told["efficient"] == NEMOTRON


def test_a_packaged_pod_knows_its_endpoint_from_its_own_environment(tmp_path: Path) -> None:
    far = {"far": {"dialect": "openai", "base_url": "http://models.internal/v1", "key_env": "K"}}
    near = {"near": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    env = {
        "NEMOFLOWS_EFFICIENT": "far:x",
        "NEMOFLOWS_ENDPOINTS": json.dumps(far | near),
        "NEMOFLOWS_OFFLINE": "0",
    }
    templates = package(tmp_path / "p", env)
    own = environment(templates["build_index"])
    assert json.loads(own["NEMOFLOWS_ENDPOINTS"]) == far
    assert {gpus(template) for template in templates.values()} == {""}
    code = "import nemoflows; from nemoflows.tasks import POLICY; nemoflows.research; print(POLICY)"
    done = run_command("python", "-c", code, env=own)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["efficient"] == "far:x"


def test_a_loopback_address_is_refused_with_the_remedy(tmp_path: Path) -> None:
    declared = {"near": {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}}
    env = {"NEMOFLOWS_EFFICIENT": "near:x", "NEMOFLOWS_ENDPOINTS": json.dumps(declared)}
    done = pyflyte_package(tmp_path / "p", env)
    assert done.returncode != 0
    for words in ("efficient model near:x", "127.0.0.1", "sidecar:x"):
        assert words in done.stdout


def test_no_environment_carries_keys_or_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    env = {"NEMOFLOWS_JOURNAL": "/somewhere", "NEMOFLOWS_FRONTIER": "openai:gpt-6-luna"}
    env["NEMOFLOWS_OFFLINE"] = "0"
    templates = package(tmp_path / "p", env)
    allowed = {"NEMOFLOWS_POLICY"}
    for template in templates.values():
        names = {name for name in environment(template) if not name.startswith("_F")}
        assert names - {"FLYTE_INTERNAL_IMAGE"} <= allowed, names
        assert "canary" not in str(template)


def test_retries_and_decks_are_the_houses_own() -> None:
    research: Any = nemoflows.research
    assert research.metadata.retries == 2
    assert research.metadata.cache is False
    assert not research.deck_fields
