"""The whole flow with a real engine in process below and a frontier model above."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.engines import ARGUMENTS
from tests.journals import recorded
from tests.loopback import ModelServer
from tests.support import run_command


@pytest.mark.vllm
def test_the_frontier_answers_what_a_fine_tune_in_process_cannot(
    tiny: Path, corpus: Path, tmp_path: Path
) -> None:
    from tests.tiny_nemotron import make_adapter

    adapter = make_adapter(tmp_path / "adapter", base=tiny, modules={"q_proj", "o_proj"})
    with ModelServer(models=("claude-haiku-4-5",)) as server:
        done = run_command(
            "python", "examples/own_lora.py", tiny, adapter, corpus, "How long is the Elbe?",
            env={
                "NEMOFLOWS_FRONTIER": "anthropic:claude-haiku-4-5",
                "NEMOFLOWS_HARDWARE": json.dumps(
                    {"engine_arguments": ARGUMENTS | {"max_model_len": 8192}}
                ),
                "NEMOFLOWS_RUN": "lora",
                "ANTHROPIC_BASE_URL": server.url.removesuffix("/v1"),
                "ANTHROPIC_API_KEY": "k",
                "VLLM_CPU_KVCACHE_SPACE": "1",
            },
        )  # fmt: skip
        purposes = server.purposes()
    assert done.returncode == 0, done.stdout
    assert "It is so. [1]" in done.stdout
    lines = done.stdout.splitlines()
    cited = json.loads([line for line in lines if line.startswith('{"number"')][-1])
    text = (corpus / cited["document"]).read_text()
    assert text[cited["start"] : cited["end"]] == cited["quote"]
    # Random weights may name by chance what the builtin tier chose: then nobody looks again.
    assert "synthesise" in purposes, "the answer is the frontier's"
    assert "Exception ignored" not in done.stdout
    assert "Traceback" not in done.stdout
    kept = [data.decode() for data in recorded(tmp_path / "home/.nemoflows/journal").values()]
    asked = [record for record in kept if f'"vllm:{tiny}+{adapter}"' in record]
    assert asked, "the fine-tune was asked first"
    assert engines_of(str(tiny)) == [], "no process of the engine is left"


def engines_of(model: str) -> list[str]:
    """Return the processes that were started for a model and still run."""
    running = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            names = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
        except OSError:
            continue
        if b"NEMOFLOWS_RUN=lora" in names and int(place.name) != os.getpid():
            running.append(f"{place.name} {model}")
    return running
