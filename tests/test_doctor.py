"""The doctor finds what is planted, names the remedy, spends nothing and shows no key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import ModelServer
from tests.support import run_command

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B"


def examined(env: dict[str, str], *words: str | Path) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_command("nemoflows", "doctor", "--json", *words, env=env, apart=True)
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {check["about"]: check for check in found}


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Serve nothing but a status, and yield the address of the server."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def small_gpu(tmp_path: Path) -> str:
    """Return a PATH whose nvidia-smi reports one small card."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Tesla T4, 15360, 580.65.06'\n")
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


def endpoints(**named: object) -> dict[str, str]:
    return {"NEMOFLOWS_ENDPOINTS": json.dumps(named)}


def test_a_bare_machine_is_well() -> None:
    status, found = examined({})
    assert status == 0
    assert {check["state"] for check in found.values()} == {"ok", "note"}


def planted(about: str, told: str, remedy: str, env: dict[str, str], *words: str | Path) -> None:
    """Assert that a fault is found, and that its remedy is named."""
    status, found = examined(env, *words)
    assert status == 1
    assert found[about]["state"] == "failed"
    assert told in found[about]["told"]
    assert remedy in found[about]["remedy"]
    assert "canary" not in json.dumps(found)


def test_settings_that_cannot_be_read() -> None:
    env = {"NEMOFLOWS_ENDPOINTS": '{"canary'}
    planted("settings", "NEMOFLOWS_ENDPOINTS is not valid JSON", "Correct the variable", env)


def test_an_endpoint_that_nobody_declared() -> None:
    planted("efficient", "No endpoint is called", "Declare it", {"NEMOFLOWS_EFFICIENT": "far:x"})


def test_a_key_that_is_missing() -> None:
    env = {"NEMOFLOWS_FRONTIER": "anthropic:claude-opus-5-5", "NEMOFLOWS_OFFLINE": "0"}
    env["NEMOFLOWS_SECRETS"] = '{"ANTHROPIC_API_KEY": "team/claude"}'
    told = "ANTHROPIC_API_KEY is not set"
    planted("frontier key", told, "the secret team, key claude", env)


def test_a_server_that_does_not_answer() -> None:
    dead = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "key_env": "K"}
    env = {
        "NEMOFLOWS_EFFICIENT": "near:x",
        "K": "canary",
        "NEMOFLOWS_DEADLINE_S": "1",
        **endpoints(near=dead),
    }
    planted("efficient server", "did not answer", "correct the base_url of 'near'", env)


def test_a_key_that_is_refused() -> None:
    with answering(401) as url:
        env = {"NEMOFLOWS_EFFICIENT": "near:x", "K": "canary"}
        env |= endpoints(near={"dialect": "openai", "base_url": url, "key_env": "K"})
        planted("efficient server", "refuses the key in K", "Correct the key in K", env)


def test_a_server_that_is_not_ready() -> None:
    with answering(503) as url:
        env = {"NEMOFLOWS_EFFICIENT": "near:x"}
        env |= endpoints(near={"dialect": "vllm-server", "base_url": url})
        planted("efficient health", "/health answers 503", "read its log", env)


def test_a_model_that_is_not_served(server: ModelServer) -> None:
    env = {"NEMOFLOWS_EFFICIENT": "near:other", "NEMOFLOWS_ENDPOINTS": server.endpoints("near")}
    planted("efficient model", "'other' is not served", "NEMOFLOWS_EFFICIENT: tiny", env)
    assert server.requests == []


def test_a_context_that_is_too_short(server: ModelServer) -> None:
    env = {"NEMOFLOWS_EFFICIENT": "near:tiny", "NEMOFLOWS_ENDPOINTS": server.endpoints("near")}
    env["NEMOFLOWS_HARDWARE"] = '{"context_tokens": 65536}'
    remedy = "lower `context_tokens` in NEMOFLOWS_HARDWARE"
    planted("efficient context", "32,768 tokens", remedy, env)
    status, found = examined(env | {"NEMOFLOWS_HARDWARE": '{"context_tokens": 32768}'})
    assert (status, found["efficient server"]["state"]) == (0, "ok")


def test_an_engine_that_is_not_installed() -> None:
    from nemoflows.engines.vllm import installed

    if installed():
        pytest.skip("vLLM is installed here")
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8"}
    planted("efficient engine", "vLLM is not installed", "pip install", env)


def test_a_model_that_does_not_fit_the_gpu_of_its_tasks() -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-BF16", "NEMOFLOWS_GPU": "l4x1"}
    planted("efficient plan", "does not fit 1x l4", "nemoflows gpus", env)


def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8", "PATH": str(tmp_path)}
    planted("efficient GPU", "no nvidia-smi", "NVIDIA's driver", env)


def test_a_gpu_that_is_too_small(small_gpu: str) -> None:
    env = {"NEMOFLOWS_EFFICIENT": f"vllm:{NANO}-FP8", "PATH": small_gpu}
    planted("efficient GPU", "1x Tesla T4, 15 GiB each, driver 580", "NEMOFLOWS_GPU", env)


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"NEMOFLOWS_JOURNAL": str(tmp_path / "file" / "journal")}
    planted("journal", "file/journal", "Give NEMOFLOWS_JOURNAL a place", env)


def test_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    config = tmp_path / "flyte.yaml"
    config.write_text("admin:\n  endpoint: dns:///127.0.0.1:9\n  insecure: true\n")
    planted("cluster", "127.0.0.1:9 does not answer", "flytectl demo start", {}, "--config", config)
    planted("cluster", "is no file", "Correct", {"FLYTECTL_CONFIG": str(tmp_path / "none")})


def test_terms_that_nobody_knows_are_noted(server: ModelServer) -> None:
    env = {"NEMOFLOWS_EFFICIENT": "near:tiny", "NEMOFLOWS_ENDPOINTS": server.endpoints("near")}
    status, found = examined(env)
    assert status == 0
    assert found["efficient licence"]["state"] == "note"
    assert "Read its card" in found["efficient licence"]["remedy"]


def test_it_reads_well_in_a_terminal() -> None:
    done = run_command("nemoflows", "doctor", env={"NEMOFLOWS_EFFICIENT": "far:x"})
    assert done.returncode == 1
    assert "FAILED efficient" in done.stdout
    assert "→ Declare it" in done.stdout
