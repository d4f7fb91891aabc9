"""Each example does what its first lines say, in the way they say it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from flyteidl.admin import launch_plan_pb2, workflow_pb2

from nemoflows.money.ledger import usd
from tests.loopback import ModelServer
from tests.packages import environment, package, pyflyte_package
from tests.support import ROOT, run_command

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_run_by_a_test(path: Path) -> None:
    tests = (ROOT / "tests").glob("test_*.py")
    assert path.stem == "__init__" or any(
        f'"examples/{path.name}"' in test.read_text(encoding="utf-8") for test in tests
    )


def test_your_own_workflow_from_the_four_tasks(corpus: Path) -> None:
    done = run_command(
        "pyflyte", "run", "examples/four_tasks.py", "brief", "--question", "How long is the Elbe?",
        "--corpus", corpus,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1,094" in done.stdout
    assert "@task" not in (ROOT / "examples" / "four_tasks.py").read_text(), "no glue"


def test_asking_a_folder(corpus: Path) -> None:
    done = run_command("python", "examples/ask_folder.py", corpus, "How long is the Elbe?")
    assert done.returncode == 0, done.stdout
    quoted = json.loads(done.stdout.strip().splitlines()[-1])
    text = (corpus / quoted["document"]).read_text()
    assert text[quoted["start"] : quoted["end"]] == quoted["quote"]
    assert "1,094" in done.stdout


def test_asking_a_table() -> None:
    done = run_command("python", "examples/ask_table.py")
    assert done.returncode == 0, done.stdout
    assert "buildings.parquet#1" in done.stdout.strip().splitlines()[-1]
    assert "1908" in done.stdout


def test_a_run_that_is_killed_half_way_pays_for_the_rest_alone(tmp_path: Path) -> None:
    done = run_command("python", "examples/crash_demo.py", tmp_path / "demo")
    assert done.returncode == 0, done.stdout
    killed, again = done.stdout.strip().splitlines()[-2:]
    n_paid = int(killed.split()[-3])
    assert 9 <= n_paid < 18
    assert "for 18 calls" in again
    assert f"{n_paid} replayed" in again
    assert f"paid now {usd((18 - n_paid) / 100)}, " in again


def test_a_vllm_server_of_your_own(corpus: Path) -> None:
    model = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
    with ModelServer(models=(model,)) as server:
        server.faults.append("400")  # what a real one answers to a schema that is none
        done = run_command(
            "python", "examples/vllm_server.py", corpus, "How long is the Elbe?", server.url
        )
        assert done.returncode == 0, done.stdout
        thinks = {body["chat_template_kwargs"]["enable_thinking"] for body in server.requests[1:]}
    assert thinks == {True, False}, "steps think or not by what they are for"
    assert "2 citations" in done.stdout
    assert "cost: $0.0" in done.stdout


def test_two_tiers_with_claude(corpus: Path) -> None:
    with ModelServer(models=("claude-opus-5-5",)) as server:
        env = {
            "ANTHROPIC_API_KEY": "canary",
            "ANTHROPIC_BASE_URL": server.url.removesuffix("/v1"),
        }
        words = ("python", "examples/with_claude.py", corpus, "How long is the Elbe?")
        first = run_command(*words, env=env)
        assert first.returncode == 0, first.stdout
        n_asked = len(server.requests)
        second = run_command(*words, env=env)
        assert len(server.requests) == n_asked == 2
    assert "paid now $0, 2 replayed" in second.stdout
    assert "canary" not in first.stdout + second.stdout


def test_gathering_the_installed_documents(tmp_path: Path) -> None:
    done = run_command("python", "examples/installed_docs.py", tmp_path / "docs")
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "docs").rglob("README.md"))) > 20
    assert list((tmp_path / "docs").rglob("tenacity/wait.py"))


def test_reading_typed_records() -> None:
    done = run_command(
        "pyflyte", "run", "examples/typed_extraction.py", "read_receipts", "--folder",
        "examples/receipts",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for words in ("Hammer & Sons Ltd", "21.95", "Total: 7.30", "not in the passage: total."):
        assert words in done.stdout


def test_a_nightly_brief_on_a_cluster(corpus: Path, tmp_path: Path) -> None:
    done = run_command(
        "pyflyte", "run", "examples/on_a_cluster.py", "brief", "--question",
        "How long is the Elbe?", "--corpus", corpus,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1,094" in done.stdout
    model = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
    env = {"NEMOFLOWS_EFFICIENT": model, "NEMOFLOWS_GPU": "h100"}
    pyflyte_package(tmp_path / "p", env, packages="examples.on_a_cluster")
    with tarfile.open(tmp_path / "p" / "flyte.tgz") as archive:
        content = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        files = {name: file.read() for name, file in content.items() if file is not None}
    spec = workflow_pb2.WorkflowSpec()
    [whole] = [text for name, text in files.items() if name.endswith("brief_2.pb")]
    spec.ParseFromString(whole)
    asked = [node.task_node.reference_id.name for node in spec.template.nodes]
    assert "nemoflows.tasks.research.research.large" in asked
    assert "nemoflows.tasks.research.research" not in asked
    tasks = package(tmp_path / "q", env, packages="examples.on_a_cluster")
    assert tasks["large"].extended_resources.gpu_accelerator.device == "nvidia-h200"
    told = json.loads(environment(tasks["large"])["NEMOFLOWS_HARDWARE"])
    assert told["engine_arguments"]["max_num_seqs"] == told["concurrent"] == 100
    [nightly] = [text for name, text in files.items() if "nightly_brief" in name]
    found = launch_plan_pb2.LaunchPlan()
    found.ParseFromString(nightly)
    assert found.spec.entity_metadata.schedule.cron_schedule.schedule == "0 2 * * *"


def test_a_step_of_your_own_in_plain_python() -> None:
    done = run_command("python", "examples/own_step.py")
    assert done.returncode == 0, done.stdout
    assert "urgency='high'" in done.stdout
    assert "billing" in done.stdout
    assert "cost: $0" in done.stdout


def test_steps_of_your_own_as_cascades() -> None:
    mails = json.dumps(["Urgency: high. Team: billing. The invoice was paid twice."])
    done = run_command(
        "pyflyte", "run", "examples/own_steps_flyte.py", "triage_mails", "--mails", mails
    )
    assert done.returncode == 0, done.stdout
    assert "billing" in done.stdout
