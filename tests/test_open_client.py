"""The client for plain Python: values, money, reports, and what a kill costs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import nemoflows
from nemoflows import Passage, Policy
from nemoflows.errors import BadInput, BadModel, BadReply, OverBudget
from nemoflows.journal import Intent, Journal
from nemoflows.llm.history import CallHistory
from nemoflows.reporting import notes_of
from nemoflows.reporting.data import ReportNotes
from tests.loopback import ModelServer
from tests.support import ROOT, run_command

PROGRAM = """
import sys
from pydantic import BaseModel
import nemoflows

class Verdict(BaseModel):
    number: int

with nemoflows.open_client() as client:
    rows = [f"row {n}" for n in range(int(sys.argv[1]))]
    found = client.ask_each("Which number?\\n{text}", rows, returns=Verdict, step="numbers")
    print([result.value.number for result in found])
    print(client.ledger)
"""


class Verdict(BaseModel):
    """What the fake provider answers."""

    number: int


class Kind(Enum):
    """Labels."""

    GOOD = "good"
    BAD = "bad"


def numbered(_: str, request: dict[str, Any]) -> str:
    """Answer with the number of the row that the request shows."""
    found = re.findall(r"row (\d+)", json.dumps(request))
    return json.dumps({"number": int(found[-1])}) if found else ""


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    with ModelServer() as server:
        server.script = numbered
        near = {"dialect": "compatible", "base_url": server.url, "usd_per_mtok": [1, 2]}
        far = near | {"usd_per_mtok": [10, 20]}
        monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", json.dumps({"near": near, "far": far}))
        monkeypatch.setenv("NEMOFLOWS_EFFICIENT", "near:tiny")
        monkeypatch.setenv("NEMOFLOWS_FRONTIER", "far:tiny")
        monkeypatch.setenv("NEMOFLOWS_HOME", str(tmp_path / "home"))
        yield server


def test_a_value_of_ones_own_type_comes_back_priced_and_is_replayed(provider: ModelServer) -> None:
    for _ in range(2):
        with nemoflows.open_client(run="mine") as client:
            found = client.ask(
                "Which number?\n{text}", row="row 7", returns=Verdict, step="numbers"
            )
            assert found == Verdict(number=7)
            assert client.ledger.n_calls == 1
            assert client.ledger.usd > 0
    assert len(provider.requests) == 1
    assert client.ledger.paid_now_usd == 0


def test_async_and_sync_share_what_is_recorded(provider: ModelServer) -> None:
    async def ask() -> Verdict:
        async with nemoflows.open_client(run="mine") as client:
            return await client.ask("Which?\n{text}", row="row 3", returns=Verdict)

    assert asyncio.run(ask()) == Verdict(number=3)
    with nemoflows.open_client(run="mine") as client:
        assert client.ask("Which?\n{text}", row="row 3", returns=Verdict) == Verdict(number=3)
    assert len(provider.requests) == 1


@pytest.mark.usefixtures("provider")
def test_the_users_check_sends_the_row_to_the_frontier_and_counts_it_once(
    tmp_path: Path,
) -> None:
    def is_even(value: Verdict, _: str) -> str:
        return "" if value.number % 2 == 0 else "odd"

    with nemoflows.open_client(run="mine") as client:
        rows = ["row 2", "row 3"]
        results = client.ask_each("Which?\n{text}", rows, returns=Verdict, check=is_even)
        assert [r.tier for r in results] == ["efficient", "frontier"]
        assert client.ledger.n_escalated == 1
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    assert ReportNotes.model_validate_json(journal.story()).budget_usd is None
    [noted] = journal.notes("superseded")
    assert len(json.loads(noted)) == 1


@pytest.mark.usefixtures("provider")
def test_a_shadow_sample_is_noted_beside_the_run_and_never_in_it() -> None:
    with nemoflows.open_client(Policy(
        efficient=nemoflows.ModelRef.model_validate("near:tiny"),
        frontier=nemoflows.ModelRef.model_validate("far:tiny"),
        shadow_share=1.0,
    ), run="mine") as client:  # fmt: skip
        client.ask_each("Which?\n{text}", ["row 1", "row 2"], returns=Verdict, step="numbers")
        assert (client.ledger.n_calls, client.ledger.n_shadow) == (2, 2)
        assert "cost: $0.00" in str(client.ledger)
    done = run_command("nemoflows", "report", "mine")
    assert done.returncode == 0, done.stdout
    page = Path(re.findall(r"\S+\.html", done.stdout)[-1]).expanduser().read_text()
    assert "all frontier (far:tiny)" in page
    assert "measured on 2 calls asked of both tiers" in page
    assert "numbers" in page, "the step's own name"
    assert "mine" in run_command("nemoflows", "runs").stdout


@pytest.mark.usefixtures("provider")
def test_a_shadow_sample_needs_a_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_POLICY", '{"shadow_share": 0.1}')
    monkeypatch.setenv("NEMOFLOWS_JOURNAL", "off")
    with pytest.raises(BadInput, match="reads the requests from the journal, and it is off"):
        nemoflows.open_client()


@pytest.mark.usefixtures("provider")
def test_a_call_that_is_escalated_and_drawn_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: Verdict, __: str) -> str:
        return "look again"

    monkeypatch.setenv("NEMOFLOWS_POLICY", '{"shadow_share": 1.0}')
    with nemoflows.open_client(run="mine") as client:
        client.ask("Which?\n{text}", row="row 1", returns=Verdict, check=never)
        assert (client.ledger.n_calls, client.ledger.n_unrecorded) == (2, 0)


@pytest.mark.usefixtures("provider")
def test_what_a_step_paid_before_it_failed_is_in_the_ledger(tmp_path: Path) -> None:
    def broken(_: Verdict, __: str) -> str:
        raise ZeroDivisionError

    with nemoflows.open_client(run="mine") as client:
        with pytest.raises(ZeroDivisionError):
            client.ask("Which?\n{text}", row="row 1", returns=Verdict, check=broken)
        assert client.ledger.n_calls == 1
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    assert len(ReportNotes.model_validate_json(journal.story()).call_keys) == 1


@pytest.mark.usefixtures("provider")
def test_what_may_be_billed_is_in_the_ledger(tmp_path: Path) -> None:
    told = {"kind": "begun", "key": "k" * 64, "call": 1, "number": 1, "at_s": 1.0}
    told |= {"purpose": "ask", "model": "near:tiny", "reserved_usd": 0.25}
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    journal.begin(Intent.model_validate(told))
    with nemoflows.open_client(run="mine") as client:
        assert (client.ledger.n_in_doubt, client.ledger.in_doubt_usd) == (1, 0.25)


@pytest.mark.usefixtures("provider")
def test_two_clients_of_one_run_are_both_in_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_POLICY", '{"shadow_share": 1.0}')
    for row in ("row 1", "row 2", "row 1"):
        with nemoflows.open_client(run="mine") as client:
            client.ask("Which?\n{text}", row=row, returns=Verdict)
    memory = CallHistory(Journal(str(tmp_path / "home/journal"), run="mine"), many_processes=True)
    notes = notes_of(memory)
    assert len(notes.call_keys) == 2
    assert (notes.shadow.n_calls, len(notes.shadow.calls)) == (2, 2)
    assert not set(notes.call_keys) & set(notes.shadow.calls)


@pytest.mark.usefixtures("provider")
def test_a_story_of_an_earlier_version_leaves_the_runs_calls(tmp_path: Path) -> None:
    with nemoflows.open_client(run="mine") as client:
        client.ask("Which?\n{text}", row="row 1", returns=Verdict)
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    earlier = {"question": "q", "text": "t", "stopped": "", "budget_note": ""}
    journal.note_story(json.dumps({"answer": earlier, "call_keys": ["k"]}))
    notes = notes_of(CallHistory(journal, many_processes=True))
    assert notes.heading.startswith("Its notes cannot be read: the run 'mine'")
    assert len(notes.call_keys) == 1
    done = run_command("nemoflows", "report", "mine")
    assert done.returncode == 0, done.stdout
    assert "for 1 call" in done.stdout


def test_labels_and_records_come_the_same_way(provider: ModelServer) -> None:
    provider.script = lambda _, request: (
        json.dumps({"label": "good"}) if '"label"' in json.dumps(request) else ""
    )
    with nemoflows.open_client(run="mine") as client:
        [labelled] = client.classify_each(Kind, ["row 1"], samples=2)
        assert (labelled.value, labelled.confidence) == (Kind.GOOD, 1.0)
    with nemoflows.open_client(Policy(), run="mine") as client:
        text = "Number: 12"
        passage = Passage(id="p", document="d", start=0, end=len(text), text=text)
        [read] = client.extract_each(Verdict, [passage])
        assert read.value == Verdict(number=12)
        assert read.spans[0].quote == "Number: 12"


def test_a_budget_that_does_not_fit_is_said_and_nothing_is_paid(provider: ModelServer) -> None:
    policy = Policy(efficient=nemoflows.ModelRef.model_validate("near:tiny"), budget_usd=0.000_001)
    with (
        nemoflows.open_client(policy, run="mine") as client,
        pytest.raises(OverBudget, match="Of the budget of"),
    ):
        client.ask("Which?\n{text}", row="row 1", returns=Verdict)
    assert provider.requests == []


def test_a_reply_that_cannot_be_used_is_no_matter_of_budget(provider: ModelServer) -> None:
    provider.script = lambda _, __: "no record"
    with (
        nemoflows.open_client(run="mine") as client,
        pytest.raises(BadReply, match="has no value"),
    ):
        client.ask("Which?\n{text}", row="row 1", returns=Verdict)


def test_what_cannot_be_asked_is_an_error_before_the_first_call(provider: ModelServer) -> None:
    with nemoflows.open_client(run="mine") as client:
        with pytest.raises(BadInput, match=r"names \{subject\}.*only text"):
            client.ask("{subject}", row="row 1", returns=Verdict)
        with pytest.raises(BadInput, match="not a pydantic model or str"):
            client.ask("{text}", row="row 1", returns=int)
        for name in ("My Step", "", "1st", "shadow", "x" * 101):
            with pytest.raises(BadInput, match="cannot be a step's name: up to 100 of a-z"):
                client.ask("{text}", row="row 1", returns=Verdict, step=name)
    nowhere = Policy(efficient=nemoflows.ModelRef.model_validate("nowhere:x"))
    with pytest.raises(BadModel, match="No endpoint is called 'nowhere'"):
        nemoflows.open_client(nowhere)
    assert provider.requests == []


def test_what_is_in_flight_when_a_client_closes_is_recorded(
    provider: ModelServer, tmp_path: Path
) -> None:
    provider.latency_s = 0.5

    async def ask() -> None:
        async with nemoflows.open_client(run="mine") as client:
            slow = client.ask("Which?\n{text}", row="row 1", returns=Verdict)
            await asyncio.gather(slow, broken())

    async def broken() -> None:
        while not provider.requests:  # noqa: ASYNC110  (another thread works)
            await asyncio.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    assert rows_of(journal) == {"row 1"}
    assert journal.in_doubt() == []


def test_ctrl_c_lets_what_is_in_flight_be_recorded(provider: ModelServer, tmp_path: Path) -> None:
    provider.latency_s = 0.5
    program = tmp_path / "own.py"
    listens = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program.write_text(listens + PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NEMOFLOWS_RUN": "mine"}
    command = [sys.executable, str(program), "1"]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not provider.requests and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    assert child.wait(240) != 0
    journal = Journal(str(tmp_path / "home/journal"), run="mine")
    assert rows_of(journal) == {"row 0"}
    assert journal.in_doubt() == []


def test_what_has_not_begun_when_a_client_closes_is_not_paid(
    provider: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.latency_s = 0.3
    monkeypatch.setenv("NEMOFLOWS_CONCURRENCY", "1")

    async def ask() -> list[Any]:
        async with nemoflows.open_client(run="mine") as client:
            rows = ["row 1", "row 2"]
            asks = [client.ask("Which?\n{text}", row=row, returns=Verdict) for row in rows]
            tasks = [asyncio.ensure_future(each) for each in asks]
            while not provider.requests:  # noqa: ASYNC110  (another thread works)
                await asyncio.sleep(0.01)
        return await asyncio.gather(*tasks, return_exceptions=True)

    done, refused = asyncio.run(ask())
    assert done == Verdict(number=1)
    assert isinstance(refused, BadInput)
    assert "closed" in str(refused)
    assert len(provider.requests) == 1


def test_in_a_pod_nothing_is_remembered_on_its_own_disk(
    provider: ModelServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"PROJECT": "p", "DOMAIN": "d", "ID": "execution1"}.items():
        monkeypatch.setenv(f"FLYTE_INTERNAL_EXECUTION_{name}", value)
    monkeypatch.setattr(logging.getLogger("nemoflows"), "propagate", True)
    with nemoflows.open_client() as client:
        assert client.run == "p/d/execution1"
        assert client.ask("Which?\n{text}", row="row 1", returns=Verdict) == Verdict(number=1)
    assert "not durable: NEMOFLOWS_HOME is no object store" in caplog.text
    near = nemoflows.ModelRef.model_validate("near:tiny")
    with pytest.raises(BadInput, match="needs a journal"):
        nemoflows.open_client(Policy(efficient=near, frontier=near, budget_usd=1.0))
    monkeypatch.setenv("NEMOFLOWS_HOME", "memory://bucket/home")
    assert nemoflows.open_client()._client.llm.journal.root == "memory://bucket/home/journal"
    assert len(provider.requests) == 1


def test_a_client_that_is_closed_says_so_and_keeps_nothing_open(
    provider: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())

    def threads() -> list[str]:
        named = [own.name for own in set(threading.enumerate()) - before]
        return [name for name in named if name.startswith("nemoflows-journal")]

    monkeypatch.setenv("NEMOFLOWS_JOURNAL", "memory://closed/journal")
    with nemoflows.open_client(run="mine") as client:
        for _ in range(3):
            client.ask("Which?\n{text}", row="row 1", returns=Verdict)
        assert len(client._inner.llm.spent) == 1
        assert threads()
    deadline_s = time.monotonic() + 120
    while threads():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert client.ledger.n_calls == 1
    with pytest.raises(BadInput, match="The client is closed"):
        client.ask("Which?\n{text}", row="row 2", returns=Verdict)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("run", ["../../x", "/x", "a/../../x", "..\\x"])
@pytest.mark.usefixtures("provider")
def test_a_runs_name_leads_nowhere_else(run: str) -> None:
    with pytest.raises(BadInput, match="leave out / and"):
        nemoflows.open_client(run=run)


def test_killed_at_random_it_pays_for_no_recorded_call_again(
    provider: ModelServer, tmp_path: Path
) -> None:
    provider.latency_s = 0.02
    program = tmp_path / "own.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"NEMOFLOWS_CONCURRENCY": "4", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(program), "60"]
    draws, journal = random.Random(3), Journal(str(tmp_path / "home/journal"))
    for _ in range(6):
        recorded = rows_of(journal)
        asked = Counter(row_of(request) for request in provider.requests)
        child = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE)
        start = len(provider.requests)
        deadline_s = time.monotonic() + 240
        while len(provider.requests) < start + draws.randint(1, 8) and child.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)
        again = Counter(row_of(request) for request in provider.requests)
        assert not {row for row in recorded if again[row] > asked[row]}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == str(list(range(60)))
    assert "60 calls" in done.stdout


def rows_of(journal: Journal) -> set[str]:
    return {part.text for r in journal.records() for part in r.request.messages[0].parts if part.id}


def row_of(request: dict[str, Any]) -> str:
    return str(re.findall(r"row \d+", json.dumps(request))[-1])
