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
from tests.journals import content, key_of, opened, recorded, rewrite
from tests.support import request, run_command


def paid(root: Path | str, run: str, n: int, *, usd: float | None = 0.25) -> LLMClient:
    """Pay for calls as a run, and return its llm."""
    engines = Engines(Settings(run=run), given={"fake": FakeEngine([Rule(reply="hi", usd=usd)])})
    llm = LLMClient(engines, Journal(str(root), run=run), settings=Settings(run=run))
    asks = [
        CallSpec(request(f"{run} {number}"), lambda reply, _: reply.text) for number in range(n)
    ]
    asyncio.run(llm.batch(asks))
    return llm


def made(root: str) -> str:
    """Make a journal of two runs."""
    llm = paid(root, "p/d/first", 3)
    llm.journal.begin(
        Intent(kind="begun", key="k", number=1, at_s=1.0, purpose="plan", model="a:b")
    )
    paid(root, "second", 2, usd=None)
    return root


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return the folder of a journal in the object layout; its root is named `file://`."""
    made(f"file://{tmp_path / 'j'}")
    return tmp_path / "j"


@pytest.fixture
def root(tmp_path: Path) -> str:
    return made(str(tmp_path / "j"))


def journal(root: Path | str, *words: str | Path, fails: bool = False) -> str:
    done = run_command("nemoflows", "journal", "--root", root, *words)
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_runs_are_listed_with_what_they_paid_and_what_is_in_doubt(
    scheme: str, tmp_path: Path
) -> None:
    root = made(f"{scheme}{tmp_path / 'j'}")
    rows = {line.split()[0]: line.split() for line in journal(root, "runs").splitlines()[2:]}
    assert rows["p/d/first"][-4:] == ["3", "0.750000", "0", "1"]
    assert rows["second"][-4:] == ["2", "0.000000", "2", "0"]


def test_what_a_run_paid_of_unknown_price_is_unknown(root: str) -> None:
    told = run_command("nemoflows", "runs", "--root", root).stdout
    rows = {line.split()[0]: line.split() for line in told.splitlines()[2:]}
    assert rows["second"][3:6] == ["2", "unknown", "unknown"]
    assert rows["p/d/first"][3:6] == ["3", "0.750000", "0.750000"]


def test_an_empty_journal_has_no_runs(tmp_path: Path) -> None:
    assert "runs: none" in journal(tmp_path / "nothing", "runs")


def test_one_call_is_shown_whole(root: str) -> None:
    key = Journal(str(root)).keys()[0]
    shown = json.loads(journal(root, "show", key[:12]))
    assert shown["key"] == key
    assert shown["outcome"]["reply"]["text"] == "hi"
    assert shown["request"]["messages"]
    assert "0 of the journal's keys" in journal(root, "show", "zz", fails=True)
    assert "5 of the journal's keys" in journal(root, "show", "", fails=True)


def test_damage_is_found_and_set_aside(root: str) -> None:
    assert "5 records are whole, 0 are damaged" in journal(root, "check")
    name, data = next(iter(recorded(root).items()))
    rewrite(root, name, data[:100])
    assert "4 records are whole, 1 are damaged" in journal(root, "check", fails=True)
    assert list(content(root, "damaged").values()) == [data[:100]]
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


@pytest.mark.parametrize("kind", ["version", "deep", "long"])
def test_an_odd_record_in_sqlite_is_named_and_passed_over(
    kind: str, root: str, tmp_path: Path
) -> None:
    name, data = sorted(recorded(root).items())[2]
    path = tmp_path / "record.json"
    path.write_bytes(data)
    odd(kind, path)
    rewrite(root, name, path.read_bytes())
    for command, words in COMMANDS.items():
        more = [str(tmp_path / word) if word == "out" else word for word in words]
        told = journal(root, command, *more, fails=command == "check")
        if command in {"check", "export"}:
            assert {"check": "4 records are whole", "export": "4 calls"}[command] in told
            assert kind == "deep" or key_of(name) in told
        elif command == "runs":
            assert (
                told.splitlines()[-1].split()[-4:] == ["3", "0.750000", "0", "1"] or kind == "deep"
            )
    assert (name in recorded(root)) != (kind == "deep")


@pytest.mark.parametrize("kind", ["version", "deep", "long", "folder", "link", "pipe"])
def test_an_odd_record_is_named_and_passed_over(kind: str, files: Path, tmp_path: Path) -> None:
    root, path = f"file://{files}", sorted((files / "calls").rglob("*.json"))[2]
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


def test_a_mark_of_order_costs_nothing(root: str) -> None:
    name, data = next(iter(recorded(root).items()))
    rewrite(root, name, b"\xef\xbb\xbf" + data)
    assert "5 records are whole, 0 are damaged." in journal(root, "check")
    assert Journal(root).outcome(key_of(name)) is not None


@pytest.mark.parametrize("line", [b'{"kind": "beg', b"[" * 99_999, b"\xff\xfe", b"{}", b"\n\n7"])
def test_an_odd_line_is_passed_over(line: bytes, root: str) -> None:
    store = opened(root)
    for name, data in (content(root, "intents") | content(root, "receipts")).items():
        store.remove(name)
        assert store.append(name, line + b"\n" + data)
    rows = {row.split()[0]: row.split() for row in journal(root, "runs").splitlines()[2:]}
    assert rows["p/d/first"][-4:] == ["3", "0.750000", "0", "1"]
    assert "second" in run_command("nemoflows", "runs", "--root", root).stdout


def test_a_run_whose_attempts_cannot_be_read_is_listed(files: Path) -> None:
    root, path = f"file://{files}", next(files.glob("intents/p/**/*.jsonl"))
    path.unlink()
    path.symlink_to("/dev/zero")
    told = journal(root, "runs")
    assert "second" in told
    assert "Attempts of the run 'p/d/first' are passed over" in told


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_pruning_counts_first_and_removes_on_request(scheme: str, tmp_path: Path) -> None:
    root = made(f"{scheme}{tmp_path / 'j'}")
    assert "0 records older than 1 days" in journal(root, "prune", "--older-than-days", "1")
    told = journal(root, "prune", "--older-than-days", "0")
    assert (
        "5 records older than 0 days, worth at least $0.75 (2 of unknown price), would be removed"
        in told
    )
    assert len(Journal(str(root)).keys()) == 5
    journal(root, "prune", "--older-than-days", "0", "--yes")
    assert Journal(str(root)).keys() == []
    assert content(root, "") == {}


def test_calls_are_exported_without_what_was_said(root: str, tmp_path: Path) -> None:
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
