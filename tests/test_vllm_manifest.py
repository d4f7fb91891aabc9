"""vLLM's own server starts with the very arguments that a manifest has, and is asked as it says."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path

import pytest
import yaml

from tests.engines import started
from tests.support import run_command

pytestmark = pytest.mark.vllm

OF_A_GPU = {"--gpu-memory-utilization": "VLLM_CPU_KVCACHE_SPACE sizes the cache without a GPU"}
"""Arguments with a value that are left out, each with the reason."""
OF_THIS_MACHINE = {"--enforce-eager": "compiling for two cores takes minutes"}
"""Arguments that are added, beside the port: a cluster gives each pod an address of its own."""
ASK = """
from typing import Annotated
from pydantic import BaseModel, Field
import nemoflows

class Guess(BaseModel):
    n: Annotated[int, Field(ge=1, le=9)]

with nemoflows.open_client(nemoflows.Policy(efficient="MODEL")) as client:
    print("guessed", client.ask("Name a number.", returns=Guess).n)
"""


def test_the_manifest_s_own_arguments_start_the_server(tiny: Path, tmp_path: Path) -> None:
    done = run_command(
        "nemoflows", "manifest", "--model", tiny, "--gpu", "l4", "--context", "2k",
        "--concurrent", "8", "--name", "warm",
    )  # fmt: skip
    objects = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    [server] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    args = list(server["args"])
    for name in OF_A_GPU:
        at = args.index(name)
        del args[at : at + 2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *server["command"][1:], *args, *OF_THIS_MACHINE]
    command += ["--port", str(port)]
    env = {one["name"]: one["value"] for one in server["env"] if "value" in one}
    ready = server["readinessProbe"]["httpGet"]
    [named] = [one for one in server["ports"] if one["name"] == ready["port"]]
    with started(
        command, f"http://127.0.0.1:{port}", ready["path"], tmp_path / "log", **env
    ) as url:
        variables = dict(re.findall(r"^# export (\w+)='?(.*?)'?$", done.stdout, re.MULTILINE))
        printed = f"http://warm.default.svc.cluster.local:{named['containerPort']}"
        assert printed in variables["NEMOFLOWS_ENDPOINTS"]
        variables["NEMOFLOWS_ENDPOINTS"] = variables["NEMOFLOWS_ENDPOINTS"].replace(printed, url)
        assert json.loads(variables["NEMOFLOWS_ENDPOINTS"])["warm"]["dialect"] == "vllm-server"
        (tmp_path / "asks.py").write_text(ASK.replace("MODEL", variables["NEMOFLOWS_EFFICIENT"]))
        answered = run_command("python", tmp_path / "asks.py", env=variables)
    assert re.search(r"^guessed [1-9]$", answered.stdout, re.MULTILINE), answered.stdout
