"""`nemoflows gpus` says what a model needs, as a table, a chart and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import ROOT, run_command
from tests.test_weights import NANO_4B

NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def printed(*words: str, **env: str) -> Any:
    done = run_command("nemoflows", "gpus", "--json", *words, env=env)
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


def test_the_plan_is_json() -> None:
    found = printed("--model", NANO, "--concurrent", "100", "--context", "32k", "--gpu", "h100")
    assert found["plan"]["gpu"]["name"] == "h100"
    assert found["plan"]["context_tokens"] == 32_768
    assert found["engine_arguments"]["max_num_seqs"] == 100
    [row] = found["gpus"]
    assert row["concurrent"] == found["plan"]["fit"] > 200
    lengths = [line["context_tokens"] for line in found["concurrent"]]
    assert lengths[-1] == 1_000_000
    fits = [line["NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 (fp8)"] for line in found["concurrent"]]
    assert fits == sorted(fits, reverse=True)


def test_another_model_is_set_beside_it() -> None:
    found = printed("--model", NANO, "--gpu", "h100", "--beside", "Qwen/Qwen3-32B-FP8")
    line = next(one for one in found["concurrent"] if one["context_tokens"] == 32_768)
    hybrid, dense = [value for name, value in line.items() if name != "context_tokens"]
    assert hybrid / dense > 10
    assert found["concurrent"][-1]["Qwen3-32B-FP8 (fp8)"] is None


def test_the_environment_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(NANO_4B))
    found = printed(NEMOFLOWS_EFFICIENT=f"vllm:{tmp_path}", NEMOFLOWS_GPU="a10gx2")
    assert (found["plan"]["gpu"]["name"], found["plan"]["count"]) == ("a10g", 2)
    assert {"1x h100", "1x b200"} <= {row["gpu"] for row in found["gpus"]}


def test_it_reads_well_in_a_terminal() -> None:
    done = run_command("nemoflows", "gpus", "--model", NANO)
    assert done.returncode == 0
    for words in ("1x h100", "refused", "emulated", "one sequence:", "sequences on 1x l40s", "█"):
        assert words in done.stdout


def test_what_is_wrong_is_said() -> None:
    for words, told in (
        ((), "--model"),
        (("--model", "nobody/knows"), "config.json"),
        (("--model", NANO, "--gpu", "h1000"), "No GPU is called"),
        (("--model", NANO, "--context", "much"), "32768, 32k or 1M"),
        (("--model", NANO, "--gpu", "l4x1"), "nearest fit"),
    ):
        done = run_command("nemoflows", "gpus", *words)
        assert done.returncode != 0
        assert told in done.stdout
        assert "Traceback" not in done.stdout


def test_the_committed_table_is_what_it_prints() -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    table = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows[1:]}
    beside = ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-30B-A3B-FP8")
    for column, other in enumerate(beside, start=1):
        for line in printed("--model", NANO, "--gpu", "h100", "--beside", other)["concurrent"]:
            tokens, own, fit = line.values()
            if f"{tokens:,}" in table:
                assert table[f"{tokens:,}"][0] == str(own)
                assert table[f"{tokens:,}"][column].startswith(
                    "beyond" if fit is None else str(fit)
                )
