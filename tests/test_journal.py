"""The journal: whole records, private files, damage counted as missing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nemoflows.calls import Answered, Reply, Unusable, Usage
from nemoflows.errors import BadInput
from nemoflows.journal import Journal, Receipt, Record
from nemoflows.journal.book import SEGMENT_LINES
from nemoflows.types import ModelRef
from tests.journals import content, lines, only_record, recorded, rewrite
from tests.support import ROOT, request

KEY = "ab" + "0" * 62


TOOL = {"name": "f", "description": "d", "schema": {"type": "object"}}


def record(key: str = KEY, text: str = "hi") -> Record:
    reply = Reply(text=text, usage=Usage(input_tokens=3), blocks=[{"type": "x", "n": [1]}])
    return Record(
        key=key,
        purpose="plan",
        model="openai:m",
        request=request(json_schema={"a": 1}, tools=[TOOL], purpose="chat"),
        outcome=Answered(reply=reply),
        usd=None,
        started_s=1.0,
        ended_s=2.0,
    )


def receipt(key: str = KEY) -> Receipt:
    return Receipt(key=key, replayed=False, at_s=1.0)


@pytest.fixture(params=["sqlite", "files", "memory"])
def anywhere(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return a root of each kind."""
    roots = {"sqlite": f"{tmp_path / 'j'}", "files": f"file://{tmp_path / 'j'}"}
    return roots.get(request.param, f"memory://{uuid.uuid4()}")


def test_a_record_comes_back_as_it_was(anywhere: str) -> None:
    Journal(anywhere).put(record())
    assert Journal(anywhere).get(KEY) == record()
    assert Journal(anywhere).keys() == [KEY]
    assert list(Journal(anywhere).records()) == [record()]


def test_a_model_of_an_older_journal_keeps_its_adapter() -> None:
    old = ModelRef.model_validate({"endpoint": "vllm", "name": "m", "adapter": "mine"})
    assert old == ModelRef.model_validate("vllm:m+mine")


def test_a_record_that_cannot_be_written_is_counted_and_not_raised(anywhere: str) -> None:
    journal = Journal(anywhere)
    assert not journal.put(record().model_copy(update={"model": "m\udc80"}))
    assert journal.n_lost == 1


def test_an_unusable_outcome_comes_back_as_one(anywhere: str) -> None:
    outcome = Unusable(reason="refused", detail="no", reply=Reply(stop="refusal"))
    Journal(anywhere).put(record().model_copy(update={"outcome": outcome}))
    found = Journal(anywhere).get(KEY)
    assert found is not None
    assert found.outcome == outcome


def test_an_unknown_key_is_none(anywhere: str) -> None:
    assert Journal(anywhere).get(KEY) is None


def test_without_a_root_nothing_is_remembered() -> None:
    journal = Journal("")
    journal.put(record())
    journal.receipt(receipt())
    journal.flush()
    assert journal.get(KEY) is None
    assert not journal.durable


def test_the_object_layout_is_one_file_per_key(tmp_path: Path) -> None:
    Journal(f"file://{tmp_path / 'j'}").put(record())
    files = [str(p.relative_to(tmp_path / "j")) for p in (tmp_path / "j").rglob("*.json")]
    assert files == [f"calls/ab/{KEY}.json"]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_path_is_one_sqlite_file(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j"))
    journal.put(record())
    journal.receipt(receipt())
    names = {path.name for path in (tmp_path / "j").iterdir()}
    assert names == {f"journal.sqlite{end}" for end in ("", "-wal", "-shm")}


def test_only_the_owner_can_read_it(root: str, tmp_path: Path) -> None:
    before = os.umask(0)
    journal = Journal(root)
    journal.put(record())
    journal.receipt(receipt())
    os.umask(before)
    for path in (tmp_path / "j").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 50, b'{"key": "x"}'])
def test_a_damaged_record_counts_as_missing(damage: bytes, root: str) -> None:
    journal = Journal(root)
    journal.put(record())
    rewrite(root, f"calls/ab/{KEY}.json", damage)
    assert journal.get(KEY) is None
    journal.put(record(text="again"))
    found = journal.get(KEY)
    assert found is not None
    assert found.outcome.reply.text == "again"


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="NEMOFLOWS_JOURNAL"):
        Journal(str(tmp_path / "file" / "j"))


def test_receipts_are_lines_of_this_process(root: str) -> None:
    journal = Journal(root, run="r1")
    for _ in range(3):
        journal.receipt(receipt())
    [(name, segment)] = content(root, "receipts").items()
    assert name == f"receipts/r1/{journal.writer}-0.jsonl"
    rows = [json.loads(line) for line in segment.splitlines()]
    assert [row["key"] for row in rows] == [KEY] * 3


OLD_LINES = (
    '{"key":"a","replayed":false,"at_s":2.0,"step":"s","task":"escalate","tier":"frontier"}',
    '{"key":"b","replayed":true,"at_s":1.0}',
    '{"key":"c","replayed":true,"at_s":3.0,"newer":{"x":1}}',
    '{"key":"d","repl',
)


def test_receipts_of_older_and_newer_versions_are_read(root: str, tmp_path: Path) -> None:
    folder = tmp_path / "j" / "receipts" / "r1"
    folder.mkdir(parents=True)
    (folder / "w-0.jsonl").write_text("\n".join(OLD_LINES))
    found = Journal(root, run="r1").receipts()
    assert [(line.key, line.first_key, line.escalated) for line in found] == [
        ("b", "", False), ("a", "s", True), ("c", "", False)
    ]  # fmt: skip
    own = Receipt(key="a", replayed=False, at_s=1.0, task="escalate")
    again = Receipt.read(own.model_dump_json().encode())
    assert not again.escalated, "only older lines go by the task"


OLD_INTENTS = (
    {"kind": "begun", "number": 1, "at_s": 1.0, "purpose": "plan", "model": "a:b"},
    {"kind": "ended", "number": 1, "at_s": 2.0, "status": "APIConnectionError"},
    {"kind": "begun", "number": 2, "at_s": 3.0, "purpose": "plan", "model": "a:b"},
    {"kind": "ended", "number": 2, "at_s": 4.0, "status": "unsent"},
)


def test_attempts_of_an_older_version_are_read(root: str, tmp_path: Path) -> None:
    folder = tmp_path / "j" / "intents" / "r1"
    folder.mkdir(parents=True)
    (folder / "w-0.jsonl").write_text("\n".join(json.dumps({"key": "k", **x}) for x in OLD_INTENTS))
    [cut] = Journal(root, run="r1").in_doubt()
    assert (cut.number, cut.why, cut.at_s) == (1, "APIConnectionError", 1.0)


def test_a_record_of_an_older_version_is_read(root: str, tmp_path: Path) -> None:
    line = record().model_dump_json(by_alias=True)
    head, found, rest = line.partition(',"request"')
    assert found
    path = tmp_path / "j" / "calls" / "ab" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(f"{head}\n{found}{rest}")
    journal = Journal(root)
    assert journal.get(KEY) == record()
    assert (journal.outcome(KEY) or record()).outcome == record().outcome


def test_receipts_on_an_object_store_are_segments() -> None:
    import fsspec

    root = f"memory://{uuid.uuid4()}"
    journal = Journal(root, run="r1")
    for _ in range(SEGMENT_LINES + 2):
        journal.receipt(receipt())
    journal.flush()
    files, inner = fsspec.core.url_to_fs(f"{root}/receipts/r1")
    lines = [files.cat_file(path).count(b"\n") for path in sorted(files.ls(inner, detail=False))]
    assert sorted(lines) == [2, SEGMENT_LINES]


def test_many_processes_write_one_root(root: str) -> None:
    code = (
        "import sys; from tests.test_journal import record, receipt; "
        "from nemoflows.journal import Journal; j = Journal(sys.argv[1]); "
        "[(j.put(record(f'{i:064x}')), j.receipt(receipt())) for i in range(200)]"
    )
    command = [sys.executable, "-c", code, root]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    journal = Journal(root)
    assert len(lines(root, "receipts")) == 800
    assert all(journal.get(f"{i:064x}") == record(f"{i:064x}") for i in range(200))


def test_a_write_that_fails_is_said_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(f"file://{tmp_path / 'j'}")
    (tmp_path / "j" / "calls").write_text("in the way")
    journal.put(record())
    assert "could not be recorded" in caplog.text
    assert not journal.durable
    (tmp_path / "j" / "calls").unlink()
    journal.put(record())
    assert journal.get(KEY) == record()


def test_a_record_that_cannot_be_read_is_a_clear_error(root: str, tmp_path: Path) -> None:
    journal = Journal(root)
    (tmp_path / "j" / "calls" / "ab" / f"{KEY}.json").mkdir(parents=True)
    with pytest.raises(BadInput, match="cannot be read"):
        journal.get(KEY)


def test_a_relative_root_is_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Journal("./here").put(record())
    assert Journal(str(tmp_path / "here")).get(KEY) == record()


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().usd = 1.0


@st.composite
def damage(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a file with some of its bytes changed, cut out, put in, or its end lost."""
    at = draw(st.integers(0, len(whole) - 1))
    end = draw(st.integers(at, min(len(whole), at + 40)))
    kind = draw(st.sampled_from(["change", "flip", "cut", "insert", "end"]))
    if kind == "flip":
        return whole[:at] + bytes([whole[at] ^ 1 << draw(st.integers(0, 7))]) + whole[at + 1 :]
    new = draw(st.binary(min_size=1, max_size=20)) if kind != "cut" else b""
    return whole[:at] + new + (b"" if kind == "end" else whole[at if kind == "insert" else end :])


def test_a_record_that_was_changed_never_answers_otherwise(root: str) -> None:
    made = record(text="It is 1,094 kilometres long. " * 5)
    journal = Journal(root)
    journal.put(made)
    name, whole = only_record(root)

    @settings(max_examples=int(os.environ.get("FUZZ", "300")), deadline=None)
    @given(damage(whole))
    def check(damaged: bytes) -> None:
        rewrite(root, name, damaged)
        try:
            found = journal.outcome(KEY)
        except BadInput:
            return
        assert found is None or (found.outcome, found.usd) == (made.outcome, made.usd)
        assert (found is None) != bool(recorded(root))

    check()


def test_a_record_without_a_checksum_is_read(root: str) -> None:
    Journal(root).put(record())
    name, data = only_record(root)
    told = json.loads(data)
    for kept in (told, {name: value for name, value in told.items() if name != "crc"}):
        rewrite(root, name, json.dumps(kept).encode())
        found = Journal(root).get(KEY)
        assert found is not None
        assert found.outcome == record().outcome
