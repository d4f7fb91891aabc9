"""The command line: what is there is shown, keys never are, and nothing is paid for."""

from __future__ import annotations

import json
from typing import Any

from nemoflows.models import BUILT_IN
from nemoflows.models.catalogue import KNOWN
from tests.loopback import ModelServer
from tests.support import run_command


def printed(*words: str, **env: str) -> Any:
    done = run_command("nemoflows", "models", "--json", *words, env=env)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


def test_endpoints_and_known_models_are_listed() -> None:
    found = printed()
    assert {row["endpoint"] for row in found["endpoints"]} == set(BUILT_IN)
    assert [row["name"] for row in found["models"]] == [model.name for model in KNOWN]
    assert all(row["licence"] and row["thinking"] for row in found["models"])


def test_declared_endpoints_are_listed_and_keys_are_only_said_to_be_there() -> None:
    declared = {"near": {"dialect": "compatible", "key_env": "NEAR_KEY", "usd_per_mtok": [1, 2]}}
    told = json.dumps(declared | {"far": {"dialect": "nim", "key_env": "FAR_KEY"}})
    done = run_command(
        "nemoflows", "models", env={"NEMOFLOWS_ENDPOINTS": told, "NEAR_KEY": "canary"}
    )
    assert done.returncode == 0, done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "NEAR_KEY is set" in rows["near"]
    assert "USD 1 in, 2 out" in rows["near"]
    assert "FAR_KEY is not set" in rows["far"]
    assert "canary" not in done.stdout
    assert "free" in rows["builtin"]
    assert "unknown" in rows["vllm"]
    assert "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B" in rows


def test_an_endpoint_is_asked_what_it_serves_at_no_cost() -> None:
    with ModelServer(models=("tiny", "large")) as server:
        found = printed("near", NEMOFLOWS_ENDPOINTS=server.endpoints("near"))
        claude = {"dialect": "anthropic", "base_url": server.url.removesuffix("/v1")}
        told = json.dumps({"claude": claude})
        other = printed("claude", NEMOFLOWS_ENDPOINTS=told)
        assert server.requests == []
    expected = [
        {"model": "near:tiny", "context_tokens": 32_768},
        {"model": "near:large", "context_tokens": 32_768},
    ]
    assert found == {"served": expected}
    assert [row["model"] for row in other["served"]] == ["claude:tiny", "claude:large"]


def refused(*words: str, **env: str) -> str:
    done = run_command("nemoflows", "models", *words, env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    return done.stdout


def test_what_cannot_be_listed_says_why() -> None:
    assert "Known: anthropic" in refused("nowhere")
    assert "no list of models" in refused("builtin")
    assert "OPENAI_API_KEY" in refused("openai", NEMOFLOWS_OFFLINE="0")
    assert "NEMOFLOWS_OFFLINE" in refused("openai", OPENAI_API_KEY="k")
    dead = json.dumps({"near": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}})
    assert "did not answer" in refused("near", NEMOFLOWS_ENDPOINTS=dead, NEMOFLOWS_DEADLINE_S="1")
    unreadable = refused(NEMOFLOWS_ENDPOINTS="{canary")
    assert "NEMOFLOWS_ENDPOINTS is not valid JSON" in unreadable
    assert "canary" not in unreadable


def test_without_a_command_it_says_what_there_is() -> None:
    done = run_command("nemoflows", "--help")
    assert done.returncode == 0
    assert "models" in done.stdout
