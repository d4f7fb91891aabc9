"""The change flow with a real engine in process, whose random weights cannot repair anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.coding import ISSUE, lending
from tests.engines import ARGUMENTS
from tests.journals import recorded
from tests.support import run_command


@pytest.mark.vllm
def test_proposals_in_one_batch_fit_the_schema_and_none_passes(tiny: Path, tmp_path: Path) -> None:
    import jsonschema

    repo = lending(tmp_path / "repo")
    code = (
        "import sys\nfrom nemoflows import Effort, Policy\n"
        "from workflows.coding import fix_issue\n"
        f"policy = Policy(efficient='vllm:{tiny}', frontier='builtin', thinking='off')\n"
        "fix_issue(repo=sys.argv[1], issue=sys.argv[2], policy=policy,\n"
        "          effort=Effort(candidates=6, repairs=2, search_runs=0))\n"
    )
    arguments = ARGUMENTS | {"max_model_len": 8192}
    done = run_command(
        "python", "-c", code, repo, ISSUE, timeout_s=580,
        env={
            "NEMOFLOWS_HARDWARE": json.dumps({"engine_arguments": arguments}),
            "VLLM_CPU_KVCACHE_SPACE": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "no candidate passed" in done.stdout
    records = [json.loads(data) for data in recorded(tmp_path / "home/.nemoflows/journal").values()]
    proposed = [record for record in records if record["purpose"] == "propose"]
    assert len(proposed) >= 6
    first = [r for r in proposed if len(r["request"]["messages"]) == 1]
    starts, ends = [r["started_s"] for r in first], [r["ended_s"] for r in first]
    assert max(starts) < min(ends), "all were under way at once"
    whole = [r for r in proposed if r["outcome"]["reply"].get("stop", "end") == "end"]
    for record in whole:
        reply = json.loads(record["outcome"]["reply"]["text"], strict=False)
        jsonschema.validate(reply, record["request"]["json_schema"])
    print(f"{len(whole)} of {len(proposed)} proposals ended within their tokens")
