"""Executions on the stand-in cluster: what a person does there, with what is paid counted.

The pods run the wheel; two models on this machine answer in both protocols.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin import execution_pb2
from flyteidl.core import literals_pb2
from flytekit.configuration import Config
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.models.core.identifier import WorkflowExecutionIdentifier
from flytekit.models.literals import LiteralMap
from flytekit.remote import FlyteRemote

from nemoflows.coding.types import Patch
from nemoflows.journal import Journal
from nemoflows.rag.types import Quotes
from nemoflows.typed.types import Result
from nemoflows.workflows.rag import answer_question
from tests.admin import Execution, Phase
from tests.coding import ISSUE, RIGHT, applies, lending, reply
from tests.loopback import ModelServer
from tests.stand_in import DOMAIN, PROJECT, RAW, Cluster, own_address, start
from tests.support import BIN, ROOT, run_command, write_corpus
from tests.test_readme import blocks

QUESTION = "How long is the Elbe?"
PARTS = [f"{QUESTION} Part {number}." for number in range(3)]
MODELS = {"efficient": "near:tiny", "frontier": "far:claude-haiku-5-5"}
ONWARDS = "nemoflows.workflows.rag.answer_question"
KEY = "canary-far"


@dataclass
class Stage:
    """A cluster, the two models, and what they were asked."""

    cluster: Cluster
    near: ModelServer
    far: ModelServer
    folder: Path
    asked: Counter[str] = field(default_factory=Counter)
    """By the id of the request, which goes by its content."""

    def __post_init__(self) -> None:
        for server in (self.near, self.far):
            server.on_request = lambda request_id: self.asked.update([request_id])

    @property
    def endpoints(self) -> str:
        usual = {"usd_per_mtok": [1, 2]}
        near = {"dialect": "openai", "base_url": self.near.url, **usual}
        base_url = self.far.url.removesuffix("/v1")
        far = {"dialect": "anthropic", "base_url": base_url, "key_env": "FAR_KEY", **usual}
        gone = {"dialect": "openai", "base_url": f"http://{own_address()}:9/v1", **usual}
        unpriced = near | {"usd_per_mtok": None}
        return json.dumps({"near": near, "far": far, "gone": gone, "unpriced": unpriced})

    @property
    def binding(self) -> dict[str, Any]:
        """Return the environment of whoever registers with both models."""
        named = {f"NEMOFLOWS_{tier.upper()}": model for tier, model in MODELS.items()}
        return named | {"NEMOFLOWS_ENDPOINTS": self.endpoints, "NEMOFLOWS_OFFLINE": "0"}

    @property
    def docs(self) -> str:
        return str(self.folder / "docs")

    def person(self, *words: Any, cwd: Path = ROOT, **env: Any) -> str:
        """Do what a person does, led to this cluster by Flyte's own variables."""
        leads = {"FLYTE_PLATFORM_URL": self.cluster.url, "HOME": str(self.folder / "home")}
        program = shutil.which(str(words[0]), path=f"{BIN}:{os.environ['PATH']}")
        assert program, words
        env = leads | self.cluster.storage | env
        done = run_command(Path(program).absolute(), *words[1:], cwd=cwd, env=env)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def pyflyte(
        self, *words: Any, cwd: Path = ROOT, program: Any = "pyflyte", **env: Any
    ) -> Execution:
        """Start something by pyflyte with this cluster's configuration."""
        before = len(self.cluster.admin.executions)
        self.person(program, "--config", self.cluster.config, *words, cwd=cwd, **env)
        [started] = self.cluster.admin.executions[before:]
        return started

    def from_console(self, name: str, **texts: str) -> Execution:
        """Start what was registered last, without any code of ours in between."""
        admin = self.cluster.admin
        latest = [key for key in admin.registered if key[:4:3] == ("launch plan", name)][-1]
        request = execution_pb2.ExecutionCreateRequest(project=PROJECT, domain=DOMAIN)
        plan = request.spec.launch_plan
        _, plan.project, plan.domain, plan.name, plan.version = latest
        plan.resource_type = 3
        for given, text in texts.items():
            request.inputs.literals[given].scalar.primitive.string_value = text
        return admin.execution(admin.CreateExecution(request, None).id.name)

    @property
    def remote(self) -> FlyteRemote:
        """Return what a program or the console has of this cluster."""
        return FlyteRemote(Config.for_endpoint(self.cluster.url, insecure=True), PROJECT, DOMAIN)

    def again(self, execution: Execution, how: str) -> Execution:
        who = execution.id
        where = ("-p", who.project, "-d", who.domain, "--execution-id", who.name)
        return self.pyflyte("execution", *where, how)

    def succeeded(self, execution: Execution) -> Execution:
        done = self.cluster.wait(execution.id.name)
        logs = "\n".join(pod.log for pod in self.cluster.of(done))
        assert done.phase == Phase.SUCCEEDED, f"{done.error}\n{logs}"
        assert KEY not in logs
        return done

    def recorded(self, execution: Execution) -> set[str]:
        """Return the requests whose outcome is recorded in the place of the execution's project."""
        who = execution.id
        place = f"{RAW}/nemoflows/{who.project}/{who.domain}/journal"
        book = Journal(place, run=f"{who.project}/{who.domain}/{who.name}")
        found = map(book.outcome, sorted(book.keys()))
        return {one.outcome.reply.request_id for one in found if one is not None}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("cluster")
    write_corpus(folder / "docs")
    secrets = {"nemoflows/FAR_KEY": KEY}
    with (
        ModelServer(host=own_address()) as near,
        ModelServer(models=("claude-haiku-5-5",), host=own_address()) as far,
        start(folder / "cluster", secrets=secrets) as cluster,
    ):
        for server in (near, far):
            server.replies["plan"] = json.dumps({"questions": PARTS})
        made = Stage(cluster, near, far, folder)
        made.person("make", "register")
        made.person("make", "register", **made.binding)
        yield made


@pytest.fixture(autouse=True)
def _stored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open this process's stores as Flyte opens them, and forget what was asked before."""
    for name, value in stage.cluster.storage.items():
        monkeypatch.setenv(name, value)
    stage.asked.clear()
    stage.near.script = lambda _, __: ""


def value(execution: Execution, name: str, kind: Any) -> Any:
    """Return an output of an execution as Python has it."""
    given = {name: execution.outputs[name]}
    literals = LiteralMap.from_flyte_idl(literals_pb2.LiteralMap(literals=given))
    context = FlyteContextManager.current_context()
    return TypeEngine.literal_map_to_kwargs(context, literals, {name: kind})[name]


def test_what_is_registered_answers_as_at_home_and_a_relaunch_pays_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(stage.cluster.admin.versions()) == 2, "one a binding"
    asked = ("--question", QUESTION, "--corpus", stage.docs)
    began = stage.pyflyte("run", "remote-launchplan", ONWARDS, *asked, cwd=stage.folder)
    lost = stage.cluster.running(began, "n2")
    while len(stage.asked) < 4:
        assert lost.process.poll() is None, lost.log
        time.sleep(0.01)
    lost.kill()
    done = stage.succeeded(began)
    assert [pod.attempt for pod in stage.cluster.of(done) if pod.node == "n2"] == [0, 1]
    n_again = sum(stage.asked.values()) - len(stage.asked)
    assert stage.recorded(done) == set(stage.asked), "every call is recorded in its place"
    assert n_again <= 8, "no more than were in flight"

    before = stage.asked.copy()
    again = stage.succeeded(stage.again(done, "relaunch"))
    assert stage.asked == before, "no call at all"

    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", stage.endpoints)
    monkeypatch.setenv("FAR_KEY", KEY)
    monkeypatch.setenv("NEMOFLOWS_OFFLINE", "0")
    at_home = answer_question(question=QUESTION, corpus=stage.docs, policy=MODELS).answer
    for one in (done, again):
        answer = value(one, "answer", type(at_home))
        assert (answer.text, answer.citations) == (at_home.text, at_home.citations)
    assert stage.far.authorizations


def test_a_person_is_asked_and_what_was_aborted_goes_on_in_its_own_domain(stage: Stage) -> None:
    """From the checkout, into another domain, by SIGTERM in the middle of what is paid."""
    run = ("run", "--remote", "-d", "production", "--image", "image:t", "workflows/approved.py")
    asked = ("answer_question_approved", "--question", QUESTION, "--corpus", stage.docs)
    began = stage.pyflyte(*run, *asked, **stage.binding)
    while not began.asked:
        assert not began.is_ending, began.error
        time.sleep(0.02)
    assert not stage.asked, "no call before somebody said yes"
    stage.remote.approve("frontier-spend", began.id.name, domain="production")
    ended = stage.cluster.running(began, "n2-0-n2")
    while len(stage.asked) < 4:
        assert ended.process.poll() is None, ended.log
        time.sleep(0.01)
    who = WorkflowExecutionIdentifier.from_flyte_idl(began.id)
    stage.remote.client.terminate_execution(who, "enough")
    assert stage.cluster.wait(began.id.name).phase == Phase.ABORTED
    assert "SIGTERM" in ended.log
    assert stage.recorded(began) == set(stage.asked), "what was in flight landed"

    done = stage.succeeded(stage.again(began, "recover"))
    phases = done.phases()
    assert {phases[node] for node in ("n0", "n1", "n2-0-n0", "n2-0-n1")} == {"RECOVERED"}
    assert [pod.node for pod in stage.cluster.of(done)] == ["n2-0-n2", "n2-0-n3", "n2-0-n4"]
    assert set(stage.asked.values()) == {1}
    assert stage.recorded(done) == set(stage.asked), "all of it asked again, of this domain alone"
    assert done.outputs["report"].scalar.blob.uri.startswith(RAW)


OWN = """
from flytekit import dynamic, workflow

import nemoflows
from helper import K, NAME
from nemoflows import Index, Passages, Policy, Quotes, Result, mapped
from nemoflows.tasks import POLICY


def names_water(value: str, row: str) -> str:
    return "" if "river" in value else "It names no river."


kind = nemoflows.ask_as("{text}", returns=str, name=NAME, row=str, check=names_water)


@dynamic(environment=nemoflows.bind().environment)
def quoted(passages: list[Passages], policy: Policy) -> list[Quotes]:
    return [nemoflows.extract(passages=one, policy=policy) for one in passages]


@workflow
def own(
    questions: list[str], corpus: str, policy: Policy = POLICY
) -> tuple[list[Quotes], list[Result[str]]]:
    index = nemoflows.build_index(corpus=corpus)
    passages = mapped(nemoflows.retrieve, index=index, k=K)(question=questions)
    kinds = kind.cascade(rows=questions, policy=policy)
    return quoted(passages=passages, policy=policy), kinds
"""


def test_a_project_with_the_wheel_maps_loops_and_branches(stage: Stage, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "flow.py").write_text(OWN)
    (project / "helper.py").write_text("K = 3\nNAME = 'kind'\n")
    stage.near.replies["chat"], stage.far.replies["chat"] = "a bird", "a river"
    questions = [QUESTION, "Where does the Elbe rise?"]
    began = stage.pyflyte(
        "run", "--remote", "--image", "image:t", "flow.py", "own", "--corpus", stage.docs,
        "--questions", json.dumps(questions),
        cwd=project, program=stage.cluster.bin / "pyflyte", PYTHONPATH="", **stage.binding,
    )  # fmt: skip
    done = stage.succeeded(began)
    quotes = value(done, "o0", list[Quotes])
    assert [one.question for one in quotes] == questions
    assert all(one.evidence for one in quotes)
    assert [one.value for one in value(done, "o1", list[Result[str]])] == ["a river"] * 2
    ran = Counter(pod.task.rpartition(".")[2] for pod in stage.cluster.of(done))
    assert ran["quoted"] == ran["build_index"] == 1
    assert ran["extract"] == 2
    assert ran.total() == 1 + 2 + 1 + 2 + 2, "index, retrieve, quoted, extract, both tiers"
    assert set(stage.asked.values()) == {1}
    assert stage.recorded(done) >= set(stage.asked)


def test_an_issue_is_fixed_as_at_home(stage: Stage) -> None:
    repo = lending(stage.folder / "repo")
    stage.near.script = lambda purpose, _: reply(RIGHT) if purpose == "propose" else ""
    began = stage.from_console("nemoflows.workflows.coding.fix_issue", repo=str(repo), issue=ISSUE)
    done = stage.succeeded(began)
    patch = value(done, "patch", Patch)
    assert patch.status == "verified"
    assert "+    return min(fine, MAX_FINE_CENTS)" in patch.diff
    applies(patch, repo)
    assert len(stage.cluster.of(done)) == 3, "read it, solve it, tell of it"
    assert stage.recorded(done) >= set(stage.asked)


def test_nobody_is_asked_to_approve_what_cannot_be_priced(stage: Stage) -> None:
    policy = {"efficient": "unpriced:tiny", "budget_usd": 0.5}
    asked = {"question": QUESTION, "corpus": stage.docs, "policy": json.dumps(policy)}
    began = stage.from_console("nemoflows.workflows.approved.answer_question_approved", **asked)
    while not began.is_over:
        assert not began.asked, "a person was asked first"
        time.sleep(0.02)
    assert "Nobody knows what 'unpriced:tiny' costs" in began.error
    assert not stage.asked


def test_flyte_tries_again_what_may_pass_and_nothing_else(stage: Stage) -> None:
    """Two executions: a provider that is gone, and a corpus that never was."""
    stage.cluster.env["NEMOFLOWS_DEADLINE_S"] = "1"
    try:
        gone = stage.from_console(
            ONWARDS, question="Who?", corpus=stage.docs, policy='{"frontier": "gone:x"}'
        )
        failed = stage.cluster.wait(gone.id.name)
    finally:
        stage.cluster.env.clear()
    assert failed.phase == Phase.FAILED
    assert "did not answer" in failed.error
    assert [pod.attempt for pod in stage.cluster.of(failed) if pod.node == "n1"] == [0, 1, 2]
    never = stage.from_console(ONWARDS, question="Who?", corpus="s3://bucket/nowhere")
    final = stage.cluster.wait(never.id.name)
    assert "nowhere" in final.error
    assert [pod.attempt for pod in stage.cluster.of(final) if pod.node == "n0"] == [0]


ELSEWHERE = ("flytectl", "kubectl", "export NEMOFLOWS_REGISTRY", ".venv/bin/nemoflows doctor")
"""What needs Docker, Kubernetes itself, or a key and a way to its provider: the doctor has tests of
its own."""
PIN = f"@{0:040}"
"""Of a repository that is never fetched: its execution is ended at once."""


def test_the_commands_of_the_page_run_as_they_stand(stage: Stage, corpus: Path) -> None:
    """In their order, in the environment that the ones before exported."""
    for path in corpus.iterdir():
        stage.cluster.put(f"{RAW}/docs/{path.name}", path.read_bytes())
    exported: dict[str, Any] = {"NEMOFLOWS_OFFLINE": "0"}
    finished = ""
    for shown in commands_of(ROOT / "docs" / "cluster.md"):
        line = shown.replace("s3://BUCKET", RAW).replace("EXECUTION", finished)
        line = line.replace("@COMMIT", PIN)
        words = shlex.split(line)
        if line.startswith("export"):
            exported |= dict(word.split("=", 1) for word in words[1:])
        elif "run" in words:
            before = len(stage.cluster.admin.executions)
            stage.person(*words, **exported)
            [began] = stage.cluster.admin.executions[before:]
            if "remote-launchplan" in words:
                finished = stage.succeeded(began).id.name
            else:
                began.change(phase=Phase.ABORTING)
        else:
            stage.person(*words, **exported)
    assert finished


def commands_of(page: Path) -> list[str]:
    """Return a page's commands for a shell, without what cannot be run here."""
    code = "\n".join(blocks(page.read_text("utf-8"), "sh")).replace("\\\n", " ")
    words = [shlex.split(line.partition(" > ")[0], comments=True) for line in code.splitlines()]
    lines = [shlex.join(one) for one in words if one]
    return [line for line in lines if not line.startswith(ELSEWHERE)]
