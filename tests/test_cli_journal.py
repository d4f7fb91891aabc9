"""`nemoflows journal`: runs, one call, integrity, pruning, export."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.journal import Intent, Journal
from nemoflows.journal.book import MOST_BYTES
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec
from nemoflows.settings import Settings
from tests.support import request, run_command


def paid(root: Path, run: str, n: int, *, usd: float | None = 0.25) -> LLMClient:
    """Pay for calls as a run, and return its llm."""
    engines = Engines(Settings(run=run), given={"fake": FakeEngine([Rule(reply="hi", usd=usd)])})
    llm = LLMClient(engines, Journal(str(root), run=run), settings=Settings(run=run))
    asks = [
        CallSpec(request(f"{run} {number}"), lambda reply, _: reply.text) for number in range(n)
    ]
    asyncio.run(llm.batch(asks))
    return llm


@pytest.fixture
def root(tmp_path: Path) -> Path:
    llm = paid(tmp_path / "j", "p/d/first", 3)
    llm.journal.begin(
        Intent(kind="begun", key="k", number=1, at_s=1.0, purpose="plan", model="a:b")
    )
    paid(tmp_path / "j", "second", 2, usd=None)
    return tmp_path / "j"


def journal(root: Path, *words: str | Path, fails: bool = False) -> str:
    done = run_command("nemoflows", "journal", "--root", root, *words)
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def test_runs_are_listed_with_what_they_paid_and_what_is_in_doubt(root: Path) -> None:
    rows = {line.split()[0]: line.split() for line in journal(root, "runs").splitlines()[2:]}
    assert rows["p/d/first"][-4:] == ["3", "0.750000", "0", "1"]
    assert rows["second"][-4:] == ["2", "0.000000", "2", "0"]


def test_what_a_run_paid_of_unknown_price_is_unknown(root: Path) -> None:
    told = run_command("nemoflows", "runs", "--root", root).stdout
    rows = {line.split()[0]: line.split() for line in told.splitlines()[2:]}
    assert rows["second"][3:6] == ["2", "unknown", "unknown"]
    assert rows["p/d/first"][3:6] == ["3", "0.750000", "0.750000"]


def test_an_empty_journal_has_no_runs(tmp_path: Path) -> None:
    assert "runs: none" in journal(tmp_path / "nothing", "runs")


def test_one_call_is_shown_whole(root: Path) -> None:
    key = Journal(str(root)).keys()[0]
    shown = json.loads(journal(root, "show", key[:12]))
    assert shown["key"] == key
    assert shown["outcome"]["reply"]["text"] == "hi"
    assert shown["request"]["messages"]
    assert "0 of the journal's keys" in journal(root, "show", "zz", fails=True)
    assert "5 of the journal's keys" in journal(root, "show", "", fails=True)


def test_damage_is_found_and_set_aside(root: Path) -> None:
    assert "5 records are whole, 0 are damaged" in journal(root, "check")
    path = next((root / "calls").rglob("*.json"))
    path.write_bytes(path.read_bytes()[:100])
    assert "4 records are whole, 1 are damaged" in journal(root, "check", fails=True)
    assert len(list((root / "damaged").iterdir())) == 1
    assert "4 records are whole, 0 are damaged" in journal(root, "check")


def odd(kind: str, path: Path) -> None:
    """Put something at the place of a record."""
    whole = path.read_bytes()
    if kind == "version":
        path.write_bytes(json.dumps(json.loads(whole) | {"outcome": {"kind": "new"}}).encode())
    elif kind == "deep":
        path.write_bytes(whole[:-2] + b"[" * 100_000)
    elif kind == "long":
        with path.open("r+b") as file:
            file.truncate(MOST_BYTES + 1)
    else:
        path.unlink()
        if kind == "folder":
            (path / "inner").mkdir(parents=True)
            (path / "inner" / "file.json").write_bytes(whole)
        elif kind == "link":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(path)


COMMANDS = {"check": [], "runs": [], "prune": ["--older-than-days", "1"], "export": ["out"]}


@pytest.mark.parametrize("kind", ["version", "deep", "long", "folder", "link", "pipe"])
def test_an_odd_record_is_named_and_passed_over(kind: str, root: Path, tmp_path: Path) -> None:
    path = sorted((root / "calls").rglob("*.json"))[2]
    odd(kind, path)
    damaged = kind == "deep"
    for command, words in COMMANDS.items():
        more = [str(tmp_path / word) if word == "out" else word for word in words]
        told = journal(root, command, *more, fails=command == "check")
        if command == "check":
            assert "4 records are whole" in told
        elif command == "export":
            assert "4 calls" in told
        assert damaged or path.stem in told
    assert damaged or path.is_symlink() or path.exists()


def test_a_mark_of_order_costs_nothing(root: Path) -> None:
    path = next((root / "calls").rglob("*.json"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "5 records are whole, 0 are damaged." in journal(root, "check")
    assert Journal(str(root)).outcome(path.stem) is not None


@pytest.mark.parametrize("line", [b'{"kind": "beg', b"[" * 99_999, b"\xff\xfe", b"{}", b"\n\n7"])
def test_an_odd_line_is_passed_over(line: bytes, root: Path) -> None:
    for path in [*root.glob("intents/**/*.jsonl"), *root.glob("receipts/**/*.jsonl")]:
        path.write_bytes(line + b"\n" + path.read_bytes())
    rows = {row.split()[0]: row.split() for row in journal(root, "runs").splitlines()[2:]}
    assert rows["p/d/first"][-4:] == ["3", "0.750000", "0", "1"]
    assert "second" in run_command("nemoflows", "runs", "--root", root).stdout


def test_a_run_whose_attempts_cannot_be_read_is_listed(root: Path) -> None:
    path = next(root.glob("intents/p/**/*.jsonl"))
    path.unlink()
    path.symlink_to("/dev/zero")
    told = journal(root, "runs")
    assert "second" in told
    assert "Attempts of the run 'p/d/first' are passed over" in told


def test_pruning_counts_first_and_removes_on_request(root: Path) -> None:
    assert "0 records older than 1 days" in journal(root, "prune", "--older-than-days", "1")
    told = journal(root, "prune", "--older-than-days", "0")
    assert (
        "5 records older than 0 days, worth at least $0.75 (2 of unknown price), would be removed"
        in told
    )
    assert len(Journal(str(root)).keys()) == 5
    journal(root, "prune", "--older-than-days", "0", "--yes")
    assert Journal(str(root)).keys() == []
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_calls_are_exported_without_what_was_said(root: Path, tmp_path: Path) -> None:
    assert "5 calls" in journal(root, "export", tmp_path / "calls.parquet")
    table = pd.read_parquet(tmp_path / "calls.parquet")
    assert len(table) == 5
    assert table["usd"].sum() == 0.75
    assert set(table["run"]) == {"p/d/first", "second"}
    assert not {"messages", "text", "request"} & set(table.columns)


def test_a_journal_that_is_off_is_said_to_be() -> None:
    done = run_command("nemoflows", "journal", "runs", env={"NEMOFLOWS_JOURNAL": "off"})
    assert done.returncode == 1
    assert "is off" in done.stdout


def test_a_run_is_listed_where_pyflyte_put_it(corpus: Path) -> None:
    script = corpus.parent / "script.json"
    script.write_text('[{"purpose": "plan", "reply": "{\\"questions\\": [\\"How long?\\"]}"}]')
    done = run_command(
        "pyflyte", "run", "workflows/rag.py", "answer_question", "--question", "How long?",
        "--corpus", corpus, "--policy", json.dumps({"frontier": f"fake:{script}"}),
    )  # fmt: skip
    assert "plan_research" not in done.stdout or done.returncode
    listed = run_command("nemoflows", "journal", "runs").stdout
    assert "local-" in listed
