"""Where pods put what they share, and with which credentials they reach it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from flytekit import FlyteContextManager

import nemoflows
from nemoflows.tasks.flyte.places import shared_prefix
from nemoflows.types import Policy
from tests.coding import ISSUE, lending
from tests.loopback import ModelServer
from tests.object_stores import serve_s3
from tests.pods import Finished, run_pod
from tests.support import write_corpus

KEY = {"FLYTE_AWS_ACCESS_KEY_ID": "minio", "FLYTE_AWS_SECRET_ACCESS_KEY": "miniostorage"}
QUESTION = "How long is the Elbe?"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[s3fs.S3FileSystem]:
    """Yield the store of a cluster that pods reach by Flyte's own variables alone."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serve_s3() as url:
        for name, value in {**KEY, "FLYTE_AWS_ENDPOINT": url}.items():
            monkeypatch.setenv(name, value)
        store = s3fs.S3FileSystem(
            key="minio", secret="miniostorage", client_kwargs={"endpoint_url": url}
        )
        store.makedirs("bucket", exist_ok=True)
        store.put(str(write_corpus(tmp_path / "docs")), "bucket/docs", recursive=True)
        yield store
        store.rm("bucket", recursive=True)


def value(done: Finished) -> Any:
    assert done.error is None, done.error
    assert done.outputs is not None, done.log
    return done.outputs["o0"]


def raw(shard: str, node: str) -> str:
    return f"s3://bucket/data/{shard}/execution1-{node}-0"


def plan(server: ModelServer, folder: Path, **more: Any) -> Finished:
    policy = Policy.model_validate({"efficient": "local:m", "frontier": "local:m"})
    env = {"NEMOFLOWS_ENDPOINTS": server.endpoints(), **more.pop("env", {})}
    return run_pod(
        nemoflows.plan_research, folder, env, raw=raw("q7", "n1"), question=QUESTION, policy=policy
    )


def test_pods_reach_the_store_with_flytes_credentials_alone(
    sandbox: s3fs.S3FileSystem, server: ModelServer, tmp_path: Path
) -> None:
    server.models = ("m",)
    done = run_pod(
        nemoflows.build_index, tmp_path / "index", corpus="s3://bucket/docs", raw=raw("ab", "n0")
    )
    index = value(done)
    home = "bucket/data/nemoflows/p/d"
    assert index.uri.startswith(f"s3://{home}/index/")
    assert index.n_documents == 3
    value(plan(server, tmp_path / "plan"))
    assert [name for name in sandbox.find(f"{home}/journal") if "/calls/" in name]
    n_asked = len(server.requests)
    value(plan(server, tmp_path / "again"))
    assert len(server.requests) == n_asked, "another attempt replays"
    assert not sandbox.exists("bucket/nemoflows")


def test_what_an_earlier_version_recorded_is_read_and_never_written(
    sandbox: s3fs.S3FileSystem, server: ModelServer, tmp_path: Path
) -> None:
    server.models = ("m",)
    value(plan(server, tmp_path / "plan"))
    for name in sandbox.find("bucket/data/nemoflows/p/d/journal"):
        sandbox.pipe_file(
            name.replace("/data/nemoflows/p/d/", "/nemoflows/"), sandbox.cat_file(name)
        )
        sandbox.rm_file(name)
    sandbox.invalidate_cache()
    before, n_asked = sandbox.find("bucket/nemoflows"), len(server.requests)
    again = plan(server, tmp_path / "again")
    value(again)
    assert len(server.requests) == n_asked
    assert "s3://bucket/nemoflows/journal recorded are replayed" in again.log
    assert sandbox.find("bucket/nemoflows") == before
    assert sandbox.find("bucket/data/nemoflows/p/d/journal"), "receipts are in the new place"


def test_a_refusal_says_which_credentials_were_looked_for(
    sandbox: s3fs.S3FileSystem, tmp_path: Path
) -> None:
    assert sandbox
    env = {"FLYTE_AWS_ACCESS_KEY_ID": "", "FLYTE_AWS_SECRET_ACCESS_KEY": ""}
    done = run_pod(nemoflows.build_index, tmp_path / "pod", env, corpus="s3://bucket/docs")
    told = done.error.message if done.error else ""
    for words in ("FLYTE_AWS_ACCESS_KEY_ID (not set)", "FLYTECTL_CONFIG is not set", "service acc"):
        assert words in told, told


def test_examine_with_a_cold_index_in_the_store(sandbox: s3fs.S3FileSystem, tmp_path: Path) -> None:
    """Threads meet what flytekit loads lazily; TEST_TIMES asks for more than one such pod."""
    assert sandbox
    given: dict[str, Any] = {"repo": str(lending(tmp_path / "repo")), "issue": ISSUE}
    task = value(run_pod(nemoflows.coding_task, tmp_path / "task", raw=raw("ab", "n0"), **given))
    for number in range(int(os.environ.get("TEST_TIMES", "1"))):
        cold = f"s3://bucket/cold{number}/ab/execution1-n1-0"
        done = run_pod(nemoflows.examine, tmp_path / str(number), raw=cold, task=task)
        assert value(done).target, done.log
        assert sandbox.find(f"bucket/cold{number}/nemoflows/p/d/index")


@pytest.mark.parametrize(
    ("raw_prefix", "shared"),
    [
        ("s3://b/ab/e1-n0-0", "s3://b"),
        ("s3://b/team/data/ab/e1-n0-0", "s3://b/team/data"),
        ("s3://b/eu/p/d/ab/e1-n0-0-dn3-1", "s3://b/eu/p/d"),
        ("gs://b/x/0z/fk3m2hq", "gs://b/x"),
        ("s3://b/x/ab/e1-n2-0/5", "s3://b/x"),
        ("s3://b/x/e1-n2-0", "s3://b/x"),
        (
            "abfs://c@account.dfs.core.windows.net/x/ab/e1-n0-0/",
            "abfs://c@account.dfs.core.windows.net/x",
        ),
        ("s3://b/something/else/entirely", "s3://b"),
    ],
)
def test_things_are_shared_below_the_configured_prefix(
    raw_prefix: str, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"PROJECT": "p", "DOMAIN": "d", "ID": "e1"}.items():
        monkeypatch.setenv(f"FLYTE_INTERNAL_EXECUTION_{name}", text)

    class Context:
        file_access = type("Access", (), {"raw_output_prefix": raw_prefix})

    monkeypatch.setattr(FlyteContextManager, "current_context", lambda: Context)
    assert shared_prefix() == f"{shared}/nemoflows/p/d"


def test_a_pod_of_flyte_2_says_its_prefix_in_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"PROJECT": "p", "DOMAIN": "d", "ID": "r1"}.items():
        monkeypatch.setenv(f"FLYTE_INTERNAL_EXECUTION_{name}", text)
    monkeypatch.setenv("_U_RUN_BASE", "s3://b/p/d/r1/")
    path = "s3://b/deep/ab/p/d/r1/a0/1"
    monkeypatch.setattr("sys.argv", ["a0", "--raw-data-path", path])
    assert shared_prefix() == "s3://b/deep/nemoflows/p/d"
