"""What registering ships, and what its version stands for, by pyflyte's own commands."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoflows.coding import snapshots
from tests.admin import Admin, packed, serve_admin
from tests.coding import committed
from tests.support import ROOT, run_command

NEMOTRON = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
ON_GPU: dict[str, Any] = {"NEMOFLOWS_EFFICIENT": NEMOTRON, "NEMOFLOWS_GPU": "h100"}
OWN = """
from flytekit import workflow

import nemoflows
from helper import K


@workflow
def quotes(question: str, corpus: str) -> nemoflows.Quotes:
    index = nemoflows.build_index(corpus=corpus)
    return nemoflows.extract(passages=nemoflows.retrieve(question=question, index=index, k=K))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Admin, Path]]:
    with serve_admin(tmp_path) as served:
        yield served


def pyflyte(config: Path, *words: str | Path, cwd: Path = ROOT, **env: Any) -> str:
    done = run_command("pyflyte", "--config", config, *words, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout
    return done.stdout


REGISTER = ("register", "--copy", "auto", "--image", "image:t", "workflows")


def test_registering_works_again_and_with_another_binding(cluster: tuple[Admin, Path]) -> None:
    admin, config = cluster
    pyflyte(config, *REGISTER)
    [first] = admin.versions()
    assert "nemoflows.workflows.rag.answer_question" in admin.names("workflow")
    pyflyte(config, *REGISTER)
    assert admin.versions() == {first}, "the same again is there already"
    assert admin.n_repeated > 20
    pyflyte(config, *REGISTER, **ON_GPU)
    assert len(admin.versions()) == 2
    assert [packed(upload) & {"workflows/rag.py"} for upload in admin.uploads.values()]
    for upload in admin.uploads.values():
        assert not {name for name in packed(upload) if name.startswith("nemoflows")}


def test_runs_from_a_checkout_ship_no_part_of_the_library(cluster: tuple[Admin, Path]) -> None:
    admin, config = cluster
    run = ("run", "--remote", "--image", "image:t", "workflows/rag.py", "answer_question")
    asked = ("--question", "How long?", "--corpus", "s3://bucket/docs")
    pyflyte(config, *run, *asked)
    pyflyte(config, *run, *asked)
    assert len(admin.versions()) == 1
    assert len(admin.executions) == 2
    pyflyte(config, *run, *asked, NEMOFLOWS_CONCURRENCY="3")
    assert len(admin.versions()) == 2
    for upload in admin.uploads.values():
        assert packed(upload) == {"workflows/__init__.py", "workflows/rag.py"}


def test_what_is_registered_can_be_launched_without_its_code(
    cluster: tuple[Admin, Path], tmp_path: Path
) -> None:
    admin, config = cluster
    pyflyte(config, *REGISTER)
    launch = ("run", "remote-launchplan", "nemoflows.workflows.rag.answer_question")
    said = pyflyte(config, *launch, "--help", cwd=tmp_path)
    assert "--policy" in said
    asked = ("--question", "How long?", "--corpus", "s3://bucket/docs")
    pyflyte(config, *launch, *asked, "--policy", '{"budget_usd": 1}', cwd=tmp_path)
    [started] = admin.executions
    assert '"budget_usd":1' in str(started.inputs.literals["policy"]).replace("\\", "").replace(
        " ", ""
    )


def test_a_corpus_of_ones_own_machine_is_uploaded(
    cluster: tuple[Admin, Path], corpus: Path
) -> None:
    admin, config = cluster
    (corpus / ".env").write_text("KEY=secret")
    for folder in ("a", "b"):
        (corpus / folder).mkdir()
        (corpus / folder / "same.md").write_text(f"# The {folder}")
    run = ("run", "--remote", "--image", "image:t", "workflows/rag.py", "answer_question")
    pyflyte(config, *run, "--question", "How long?", "--corpus", corpus)
    [started] = admin.executions
    uri = started.inputs.literals["corpus"].scalar.primitive.string_value
    assert uri.startswith("s3://bucket/")
    root = uri.removeprefix("s3://bucket")
    names = {name.removeprefix(f"{root}/") for name in admin.uploads if not name.endswith(".gz")}
    assert names == {"elbe.md", "danube.md", "bread.md", "a/same.md", "b/same.md"}


def test_a_repository_of_ones_own_machine_is_uploaded(
    cluster: tuple[Admin, Path], tmp_path: Path
) -> None:
    admin, config = cluster
    files = {"part/m.py": "x = 1\n", "part/run.sh": "", "other.py": "", "part/.env.example": ""}
    top = committed(tmp_path / "top", files, "cache\nprod.env\n")
    repo = top / "part"
    (repo / "run.sh").chmod(0o755)
    (repo / "new.py").write_text("y = 2\n")  # which git would track
    (repo / "in").symlink_to("m.py")
    (repo / "out").symlink_to("/etc/hostname")
    (repo / "cache").write_text("x")
    for secret in ("prod.env", ".env", ".env.local", "server.pem", ".ssh/id_rsa", ".netrc"):
        (repo / secret).parent.mkdir(exist_ok=True)
        (repo / secret).write_text("KEY=hush-4242")
    run = ("run", "--remote", "--image", "image:t", "workflows/coding.py", "fix_issue")
    pyflyte(config, *run, "--repo", repo, "--issue", "It fails.")
    [started] = admin.executions
    uri = started.inputs.literals["repo"].scalar.primitive.string_value
    assert re.fullmatch(r"s3://bucket/.*/part\.tar\.gz", uri)
    [sent] = [data for name, data in admin.uploads.items() if uri.endswith(name)]
    assert b"hush-4242" not in gzip.decompress(sent)
    (tmp_path / "part.tar.gz").write_bytes(sent)
    there = snapshots.snapshot(str(tmp_path / "part.tar.gz"), root=str(tmp_path / "there"))
    here = snapshots.snapshot(str(repo), root=str(tmp_path / "here"))
    same = {"tree", "n_files", "name", "prefix", "commit", "left_out"}
    assert there.model_dump(include=same) == here.model_dump(include=same)
    tree = snapshots.opened(there)
    assert {*tree.files} == {"m.py", "run.sh", "new.py", ".env.example"}
    assert {*tree.executable} == {"run.sh"}
    assert dict(tree.links) == {"in": "m.py"}
    assert (there.prefix, len(there.commit)) == ("part/", 40)
    assert ".env: looks like a key, and git does not track it" in there.left_out


@pytest.mark.parametrize(
    ("repo", "told"),
    [
        ("no/such/folder", "to upload"),
        ("https://example.com/x.git", "not pinned"),
        ("https://example.com/x.git@main", "not pinned"),
        ("https://u:hush-4242@example.com/x.git@" + "a" * 40, "GIT_TOKEN"),
    ],
)
def test_a_repository_that_no_pod_could_read_is_refused_before_one_starts(
    repo: str, told: str, cluster: tuple[Admin, Path]
) -> None:
    admin, config = cluster
    done = run_command(
        "pyflyte", "--config", config, "run", "--remote", "--image", "i:t",
        "workflows/coding.py", "fix_issue", "--repo", repo, "--issue", "It fails.",
    )  # fmt: skip
    assert done.returncode != 0
    assert told in done.stdout
    assert admin.executions == []


@pytest.mark.parametrize("copy", ["auto", "all"])
def test_a_project_of_ones_own_ships_its_own_modules(
    copy: str, cluster: tuple[Admin, Path], tmp_path: Path
) -> None:
    admin, config = cluster
    project = tmp_path / "project"
    project.mkdir()
    (project / "flow.py").write_text(OWN)
    (project / "helper.py").write_text("K = 3\n")
    asked = ("--question", "How long?", "--corpus", "s3://bucket/docs")
    pyflyte(
        config, "run", "--remote", "--copy", copy, "--image", "i:t", "flow.py", "quotes", *asked,
        cwd=project,
    )  # fmt: skip
    [upload] = admin.uploads.values()
    assert packed(upload) == {"flow.py", "helper.py"}
