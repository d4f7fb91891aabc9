"""A run of 200 calls, killed 20 times: the ledger is the provider's bill, the budget holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows.search import build_index
from tests.budgeted import CONCURRENCY, LATENCY_S, QUESTIONS, USD_PER_MTOK
from tests.loopback import ModelServer
from tests.support import run_command

KILLS = 20
CALL_USD = (120 * USD_PER_MTOK[0] + 30 * USD_PER_MTOK[1]) / 1e6
"""What the server bills for every reply: the usage that it states, at the endpoint's price."""


def run(server: ModelServer, folder: Path, cap_usd: float, kills: int) -> dict[str, Any]:
    done = run_command(
        "python", "-m", "tests.budgeted", server.url, folder, str(cap_usd), str(kills)
    )
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def billing(corpus: Path, tmp_path: Path) -> tuple[ModelServer, list[str], list[Path]]:
    index = build_index(str(corpus), str(tmp_path / "index"))
    folders = [tmp_path / "killed", tmp_path / "whole"]
    for folder in folders:
        folder.mkdir()
        (folder / "index.json").write_text(index.model_dump_json(), "utf-8")
    server = ModelServer(latency_s=LATENCY_S)
    billed: list[str] = []
    server.on_request = billed.append  # billed as soon as it came in, whoever hears the reply
    return server, billed, folders


def test_the_ledger_is_the_bill_and_the_answer_that_of_an_unkilled_run(
    billing: tuple[ModelServer, list[str], list[Path]],
) -> None:
    server, billed, (killed, whole) = billing
    with server:
        found = run(server, killed, 3.0, KILLS)
        bill_usd, n_billed = len(billed) * CALL_USD, len(billed)
        assert n_billed >= 2 * len(QUESTIONS)
        billed.clear()
        clean = run(server, whole, 3.0, 0)
    assert len(billed) == 2 * len(QUESTIONS), "the unkilled run pays for each call once"
    assert clean["ledger_usd"] == pytest.approx(len(billed) * CALL_USD)
    assert found["found"] == clean["found"]
    assert found["budget_note"] == 0
    assert found["ledger_usd"] == pytest.approx(clean["ledger_usd"])
    assert 1 <= found["n_in_doubt"] <= KILLS * CONCURRENCY
    assert n_billed - 2 * len(QUESTIONS) <= found["n_in_doubt"], "no attempt is unaccounted for"
    assert bill_usd <= found["used_usd"] + 1e-9
    assert found["used_usd"] <= 3.0


def test_a_small_budget_is_never_exceeded_however_often_the_run_is_killed(
    billing: tuple[ModelServer, list[str], list[Path]],
) -> None:
    server, billed, (killed, _) = billing
    with server:
        found = run(server, killed, 0.05, KILLS)
    assert len(billed) * CALL_USD <= found["used_usd"] + 1e-9
    assert found["used_usd"] <= 0.05
    assert found["budget_note"] > 0
    assert found["answered"] == len(QUESTIONS), "the builtin tier goes on where a model may not"
