"""What a cluster is told, and what it says when something is missing there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flytekit import FlyteContextManager
from pydantic import BaseModel

import nemoflows
from nemoflows import settings as settings_module
from nemoflows.engines.vllm import installed
from nemoflows.errors import BadInput, BadModel
from nemoflows.journal import Journal
from nemoflows.models import Endpoint
from nemoflows.models.hardware import Hardware
from nemoflows.rag.types import Passages
from nemoflows.settings import Settings
from nemoflows.tasks.flyte import images
from nemoflows.tasks.flyte.binding import bound, digest, environment, secrets
from nemoflows.tasks.flyte.text import AsText
from nemoflows.types import ModelRef, Policy
from tests.loopback import ModelServer
from tests.pods import run_pod
from tests.support import run_command

NANO = Policy.model_validate({"efficient": "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"})
OWN = {"dialect": "compatible", "base_url": "https://models.example.com/v1", "key_env": "OWN_KEY"}


@pytest.mark.parametrize(
    "name", ["ENDPOINTS", "HARDWARE", "SECRETS", "CONCURRENCY", "OFFLINE", "RUN", "GPU", "POLICY"]
)
def test_an_empty_variable_is_as_one_that_is_not_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEMOFLOWS_OFFLINE")
    monkeypatch.setenv(f"NEMOFLOWS_{name}", "")
    assert settings_module.load() == Settings()


def told(**given: Any) -> dict[str, str]:
    return environment(bound(Settings(**given), Policy()), efficient=False)


def test_settings_that_mean_the_same_in_a_pod_travel_there() -> None:
    usual = told(offline=False)
    given = {"run": "nightly", "offline": True, "concurrency": 7, "deadline_s": 9.5}
    found = told(journal="s3://shared/journal", **given)
    assert {name: found[name] for name in found if name not in usual} == {
        "NEMOFLOWS_RUN": "nightly",
        "NEMOFLOWS_OFFLINE": "1",
        "NEMOFLOWS_CONCURRENCY": "7",
        "NEMOFLOWS_DEADLINE_S": "9.5",
        "NEMOFLOWS_JOURNAL": "s3://shared/journal",
    }
    assert told(journal="off")["NEMOFLOWS_JOURNAL"] == "off"
    assert "NEMOFLOWS_JOURNAL" not in told(journal="/home/me/journal")


CHANGES: list[dict[str, Any]] = [
    {"gpu": "h200"},
    {"hardware": Hardware(concurrent=64)},
    {"hardware": Hardware(engine_arguments={"seed": 1})},
    {"hardware": Hardware(image="mine:2")},
    {"hardware": Hardware(tests_image="mine:3")},
    {"secrets": {"HF_TOKEN": "team/token"}},
    {"endpoints": {"own": Endpoint.model_validate(OWN)}},
    {"registry": "ghcr.io/me"},
    {"concurrency": 3},
    {"journal": "s3://other/journal"},
]


def test_a_binding_is_told_from_any_other_and_is_the_same_each_time() -> None:
    made = [digest(bound(Settings(**{"gpu": "h100"} | more), NANO)) for more in [{}, *CHANGES]]
    made += [digest(bound(Settings(gpu="h100"), Policy()))]
    assert len(set(made)) == len(made)
    ways = [{"a": Endpoint(dialect="fake"), "b": Endpoint(dialect="fake")}]
    ways += [dict(reversed(ways[0].items()))]
    assert len({digest(bound(Settings(endpoints=way), Policy())) for way in ways}) == 1


def test_what_an_eager_task_starts_belongs_to_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"PROJECT": "p", "DOMAIN": "d", "ID": "e-child"}.items():
        monkeypatch.setenv(f"FLYTE_INTERNAL_EXECUTION_{name}", text)
    assert settings_module.run_id(Settings()) == "p/d/e-child"
    monkeypatch.setenv("_F_EE_ROOT", "root1")
    assert settings_module.run_id(Settings()) == "p/d/root1"
    assert settings_module.run_id(Settings(run="mine")) == "mine"


def test_a_run_is_found_by_its_execution_alone(tmp_path: Path) -> None:
    for run in ("flytesnacks/development/abc123", "flytesnacks/development/xyz789"):
        book = Journal(str(tmp_path), run=run)
        book.note_story("{}")
    for start in ("abc123", "abc", "flytesnacks/development/abc"):
        said = run_command("nemoflows", "runs", start, "--root", tmp_path).stdout
        assert "abc123" in said
        assert "xyz789" not in said


def test_a_missing_key_is_told_in_the_clusters_words(server: ModelServer, tmp_path: Path) -> None:
    policy = Policy.model_validate({"frontier": "local:m"})
    env = {
        "NEMOFLOWS_ENDPOINTS": server.endpoints(key_env="OWN_KEY"),
        "NEMOFLOWS_SECRETS": json.dumps({"OWN_KEY": "team/claude"}),
        "FLYTE_INTERNAL_IMAGE": "ghcr.io/me/nemoflows:1",
    }
    done = run_pod(nemoflows.plan_research, tmp_path / "pod", env, question="q", policy=policy)
    assert done.error is not None
    for words in (
        "secret 'team' of the namespace 'p-d' has no key 'claude'",
        "kubectl create secret generic team -n p-d --from-literal=claude=",
        "image ghcr.io/me/nemoflows:1",
        "pyflyte execution -p p -d d --execution-id execution1 recover",
        "No call was made",
    ):
        assert words in done.error.message, done.error.message
    assert server.requests == []


@pytest.mark.skipif(installed() is not None, reason="vLLM is installed here")
def test_a_gpu_pod_says_what_its_image_lacks_before_anything_else(tmp_path: Path) -> None:
    passages = Passages(question="q", passages=[])
    env = {"NEMOFLOWS_EFFICIENT": str(NANO.efficient), "NEMOFLOWS_GPU": "h100"}
    done = run_pod(nemoflows.extract, tmp_path / "pod", env, passages=passages, policy=NANO)
    assert done.error is not None
    for words in (
        "its image has no vLLM",
        "`image` in NEMOFLOWS_HARDWARE names your own",
        "`nemoflows doctor --cluster`",
        "A pod of the image image:t in the namespace p-d",
        "No call was made",
    ):
        assert words in done.error.message, done.error.message
    assert done.error.kind == done.error.NON_RECOVERABLE


def test_prices_are_asked_before_a_person(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced = json.loads(server.endpoints(usd_per_mtok=[1.0, 1.0]))["local"]
    both = {"dear": priced, "cheap": {**priced, "usd_per_mtok": None}}
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", json.dumps(both))
    asked = {"frontier": "dear:m", "budget_usd": 0.5}
    with pytest.raises(BadModel, match=r"Nobody knows what 'cheap:m' costs"):
        nemoflows.estimate_frontier(
            question="q", policy=Policy.model_validate(asked | {"efficient": "cheap:m"})
        )
    assert nemoflows.estimate_frontier(
        question="q", policy=Policy.model_validate(asked | {"efficient": "dear:m"})
    )


def test_who_makes_or_searches_an_index_gets_the_embedders_key() -> None:
    own = {"own": Endpoint.model_validate(OWN)}
    settings = Settings(endpoints=own, gpu="h100", offline=False)
    embedding = NANO.model_copy(update={"embedder": ModelRef.model_validate("own:e")})
    binding = bound(settings, embedding)
    for uses in ({"index": True, "efficient": False}, {"index": True, "efficient": True}):
        [secret] = secrets(binding, frontier=False, **uses)
        assert secret.env_var == "OWN_KEY"
    assert secrets(binding, efficient=True, frontier=False) == []


@pytest.mark.parametrize("task", [nemoflows.build_index, nemoflows.snapshot], ids=["index", "repo"])
def test_a_path_of_a_laptop_is_refused_with_what_helps(task: Any, tmp_path: Path) -> None:
    [name] = [one for one in ("corpus", "repo") if one in task.python_interface.inputs]
    done = run_pod(task, tmp_path / "pod", None, **{name: "/home/me/things"})
    assert done.error is not None
    assert "a path of your own machine" in done.error.message
    assert "s3://" in done.error.message


def test_an_image_that_is_neither_built_nor_found_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr(images, "is_published", lambda: True)
    monkeypatch.chdir(tmp_path)
    image: Any = images.image(Settings(registry="localhost:1/me"), gpu=False)
    with pytest.raises(BadInput, match="can neither be built nor looked for"):
        image.exist()


def test_images_of_tests_have_pytest_and_git(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "is_published", lambda: True)
    monkeypatch.chdir(tmp_path)
    image: Any = images.image(Settings(registry="localhost:1/me"), gpu=False, tests=True)
    assert (image.apt_packages, image.packages) == (["git"], ["pytest"])
    own = Settings(registry="r.io/me", hardware=Hardware(tests_image="mine:1"))
    assert images.image(own, gpu=False, tests=True) == "mine:1"


def test_a_policy_may_be_given_as_a_mapping() -> None:
    context = FlyteContextManager.current_context()
    text: Any = AsText(Policy).to_literal(context, {"budget_usd": 1.5}, Policy, None)
    assert json.loads(text.scalar.primitive.string_value)["budget_usd"] == 1.5


class Triage(BaseModel):
    urgent: bool


triage = nemoflows.ask_as("{text}", returns=Triage, name="triage", row=str)


def test_a_cascade_outside_a_workflow_says_what_it_is_for() -> None:
    with pytest.raises(BadInput, match="call it in a function with @workflow"):
        triage.cascade(rows=["a"])
