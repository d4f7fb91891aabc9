"""A journal in one SQLite file: what lies beside it, damage, other programs, forks, imports."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.errors import BadInput
from nemoflows.journal import Journal, Receipt
from nemoflows.journal.summary import runs
from nemoflows.journal.transfer import import_journal
from nemoflows.llm.results import CallSpec, Success
from nemoflows.storage import database, sqlite
from nemoflows.storage.filesystem import network_of
from nemoflows.storage.opening import open_records
from nemoflows.storage.sqlite import FILE, SqliteStore
from tests.journals import content, opened, recorded
from tests.support import make_llm, request, run_command
from tests.test_journal import record

N = 40
KEYS = [f"{number:02x}" * 32 for number in range(N)]


def filled(root: str | Path, *, run: str = "r") -> Journal:
    """Return a journal with records of several lengths, and lines."""
    journal = Journal(str(root), run=run)
    for number, key in enumerate(KEYS):
        text = f"{number} " * (number * 150)
        journal.put(record(key, text).model_copy(update={"run": run}))
        journal.receipt(Receipt(key=key, replayed=False, at_s=float(number)))
    return journal


def asked(root: str | Path, n: int = 3) -> int:
    """Ask some questions, and return how many were not replayed."""
    engine = FakeEngine([Rule(reply="hi")])
    specs = [CallSpec(request(str(number)), lambda reply, _: reply.text) for number in range(n)]
    done = asyncio.run(make_llm(engine, root).batch(specs))
    assert all(isinstance(one, Success) for one in done)
    return len(engine.asked)


def damaged(path: Path, data: bytes) -> None:
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    path.write_bytes(data)


def test_records_of_the_older_layout_are_replayed_with_no_action(tmp_path: Path) -> None:
    assert asked(f"file://{tmp_path}") == 3
    assert asked(tmp_path, 5) == 2
    journal = Journal(str(tmp_path), run="test")
    assert len(journal.keys()) == len(list(journal.records())) == 5
    assert [run.calls for run in runs(journal)] == [5]
    assert len(journal.receipts()) == 8
    assert (tmp_path / "calls").exists()


def test_the_older_layout_is_taken_into_the_file(tmp_path: Path) -> None:
    filled(f"file://{tmp_path}").note_story("{}")
    Journal(str(tmp_path)).put(record("ff" * 32))
    before, told = content(tmp_path, ""), runs(Journal(str(tmp_path)))
    done = run_command("nemoflows", "journal", "--root", tmp_path, "import")
    assert f"{N} records" in done.stdout
    assert content(tmp_path, "") == before
    assert runs(Journal(str(tmp_path))) == told
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and FILE not in path.name]
    assert import_journal(str(tmp_path)).records == 0


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_another_root_is_brought_in_and_stays(scheme: str, tmp_path: Path) -> None:
    old, new = f"{scheme}{tmp_path / 'old'}", str(tmp_path / "new")
    filled(old)
    before = content(old, "")
    for source in (old, str(tmp_path / "old")):
        assert import_journal(new, source).records == N
    assert content(new, "") == before == content(old, "")
    assert len(list(opened(new).calls("r"))) == N
    with pytest.raises(BadInput, match="holds no journal"):
        import_journal(new, str(tmp_path / "nothing"))


def test_a_file_that_is_cut_off_anywhere_is_said_and_salvaged(tmp_path: Path) -> None:
    root, saved = tmp_path / "j", []
    filled(root).close()
    before, whole = recorded(root), (root / FILE).read_bytes()
    for part in (0, 1, 99, 100, 4096, *range(7_001, len(whole), 29_999), len(whole) - 1):
        shutil.rmtree(root)
        root.mkdir()
        damaged(root / FILE, whole[:part])
        with pytest.raises(BadInput, match=r"damaged.*nemoflows journal import"):
            Journal(str(root))
        found = import_journal(str(root))
        assert Path(found.aside).read_bytes() == whole[:part]
        left = recorded(root)
        assert left.items() <= before.items()
        assert [one.key for one in Journal(str(root)).records()] == [n[-69:-5] for n in left]
        saved.append(len(left))
    assert saved == sorted(saved)
    assert saved[0] == 0
    assert saved[-1] >= N - 1


def test_what_only_the_log_holds_is_salvaged_too(tmp_path: Path) -> None:
    root = tmp_path / "j"
    journal = filled(root)
    for end in ("", "-wal"):
        shutil.copy(root / f"{FILE}{end}", tmp_path / f"copy{end}")
    journal.close()
    head = bytearray((tmp_path / "copy").read_bytes())
    head[:40] = b"x" * 40
    (tmp_path / "copy").write_bytes(head)
    new = str(tmp_path / "new")
    assert import_journal(new, str(tmp_path / "copy")).records == N
    assert recorded(new) == recorded(root)
    assert len(Journal(new, run="r").receipts()) == N


@pytest.mark.parametrize("at", range(4096, 200_000, 13_001))
def test_bytes_that_changed_give_no_wrong_answer(at: int, tmp_path: Path) -> None:
    filled(tmp_path).close()
    data = bytearray((tmp_path / FILE).read_bytes())
    at %= len(data)
    data[at : at + 9] = b"\xa5" * 9
    damaged(tmp_path / FILE, bytes(data))
    n_missing, told = 0, []
    for number, key in enumerate(KEYS):
        try:
            found = Journal(str(tmp_path)).outcome(key)
        except BadInput as error:
            told.append(error.message)
        else:
            n_missing += found is None
            assert found is None or found.outcome.reply.text == f"{number} " * (number * 150)
    assert all("nemoflows journal import" in each for each in told)
    assert n_missing <= 1, "at most the damaged record is asked again"


def test_a_changed_tree_of_names_never_hides_a_call(tmp_path: Path) -> None:
    """Bytes of its inner pages, of a page's head, of a leaf: what is found is right, or told."""
    filled(tmp_path).close()
    whole = (tmp_path / FILE).read_bytes()
    pages = range(0, len(whole), database.PAGE_BYTES)
    trees = [at for at in pages if whole[at + 100 * (not at)] in {2, 5, 10}]
    assert any(whole[at] == 2 for at in trees)
    draws = random.Random(3)
    for at in trees * 3:
        data = bytearray(whole)
        data[at + draws.choice([0, 4, 9, 13, draws.randrange(database.PAGE_BYTES)])] ^= (
            1 << draws.randrange(8)
        )
        damaged(tmp_path / FILE, bytes(data))
        for number, key in enumerate(KEYS):
            with suppress(BadInput):
                found = Journal(str(tmp_path)).outcome(key)
                assert found is not None, "it would be paid again"
                assert found.outcome.reply.text == f"{number} " * (number * 150)


def test_a_call_that_another_process_records_meanwhile_is_no_damage(tmp_path: Path) -> None:
    journal, other = Journal(str(tmp_path), run="r"), Journal(str(tmp_path), run="r")
    asked: list[str] = []

    class Slow(SqliteStore):
        """Between whose questions another process writes."""

        def _query(self, statement: str, *given: str | int) -> list[object]:
            rows = super()._query(statement, *given)
            if not asked:
                other.put(record(KEYS[0], "hi"))
            asked.append(statement)
            return rows

    with closing(Slow(tmp_path)) as store:
        name = f"calls/{KEYS[0][:2]}/{KEYS[0]}.json"
        assert store.own(name) is None
        assert len(asked) == 2
        assert store.own(name)
    assert journal.get(KEYS[0])


@pytest.mark.parametrize("how", ["whole", "cut off", "removed", "changed"])
def test_a_log_that_lost_its_end_after_a_kill_is_told(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not (pid := os.fork()):
        filled(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    wal = tmp_path / f"{FILE}-wal"
    data = wal.read_bytes()
    middle = len(data) // 2
    match how:
        case "cut off":
            wal.write_bytes(data[:middle])
        case "removed":
            wal.unlink()
        case "changed":
            wal.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    n_left = len(Journal(str(tmp_path)).keys())
    assert (n_left == N) == (how == "whole") == ("asked, and paid, again" not in caplog.text)


def test_an_older_file_gets_what_it_lacks(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as older:
        older.execute("DROP INDEX calls_by_key")
    assert Journal(str(tmp_path)).outcome(KEYS[0])
    with closing(sqlite3.connect(tmp_path / FILE)) as found:
        assert found.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls_by_key'").fetchone()


def test_another_programs_file_and_a_newer_one_stay_as_they_are(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE notes(text)")
        other.commit()
    before = (tmp_path / FILE).read_bytes()
    for _ in range(2):
        with pytest.raises(BadInput, match="another program"):
            Journal(str(tmp_path))
    assert (tmp_path / FILE).read_bytes() == before
    with closing(sqlite3.connect(tmp_path / FILE)) as newer:
        newer.execute(f"PRAGMA application_id = {database.APPLICATION}")
        newer.execute("PRAGMA user_version = 99")
        newer.commit()
    with pytest.raises(BadInput, match=r"layout 99.*No call was made"):
        Journal(str(tmp_path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "j").close()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / FILE).symlink_to(tmp_path / "j" / FILE)
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    for name in ("link", "folder"):
        with pytest.raises(BadInput, match="it is no file"):
            Journal(str(tmp_path / name))


def test_a_paid_call_is_written_beside_a_file_that_somebody_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    assert asked(tmp_path, 1) == 1
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert asked(tmp_path, 9) == 8
    assert "end it" in caplog.text
    assert "could not be recorded" not in caplog.text
    assert asked(tmp_path, 9) == 0
    assert import_journal(str(tmp_path)).records == 8
    assert len(recorded(tmp_path)) == 9


def test_a_process_and_its_fork_both_write(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    pid = os.fork()
    if not pid:
        wrote = journal.put(record("cd" * 32)) and journal.get(KEYS[0]) is not None
        os._exit(0 if wrote else 1)
    assert journal.put(record("ef" * 32))
    assert os.waitpid(pid, 0)[1] == 0
    assert {"cd" * 32, "ef" * 32} <= set(journal.keys())
    assert opened(tmp_path).problems() == ""


def test_a_root_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    shutil.rmtree(tmp_path / "j")
    assert journal.put(record())
    assert Journal(str(tmp_path / "j")).keys() == [record().key]


def test_the_log_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 2**18)
    journal = Journal(str(tmp_path))
    for number in range(300):
        journal.put(record(f"{number:064x}", "x" * 3000))
    assert (tmp_path / f"{FILE}-wal").stat().st_size < 2**21
    assert len(recorded(tmp_path)) == 300


def test_what_is_removed_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.put(record("ab" * 32, "a canary sings"))
    for call in journal.facts():
        journal.remove(call.key)
    journal.store.compact()
    assert b"canary" not in b"".join(path.read_bytes() for path in tmp_path.glob(f"{FILE}*"))
    assert (journal.keys(), list(journal.facts())) == ([], [])


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:30 / /home rw shared:1 - nfs4 server:/home rw
24 23 8:2 / /home/disk rw - xfs /dev/sdb1 rw
25 22 0:31 / /mnt/with\\040space rw - fuse.sshfs me@there: rw
26 22 0:32 / /homes rw - btrfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", ""),
        ("/home", "nfs4"),
        ("/home/me/journal", "nfs4"),
        ("/home/disk/journal", ""),
        ("/homes/me", ""),
        ("/mnt/with space/j", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_known(path: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_of(Path(path), tmp_path / "mounts") == kind
    assert network_of(Path(path), tmp_path / "nothing") == ""


def test_a_network_file_system_has_the_object_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "j").close()
    with pytest.raises(BadInput, match=r"file:// address.*journal --root OTHER import"):
        open_records(f"file://{tmp_path / 'j'}")
    monkeypatch.setattr("nemoflows.storage.opening.network_of", lambda _: "nfs4")
    with pytest.raises(BadInput, match=r"\(nfs4\)"):
        open_records(str(tmp_path / "j"))
    with caplog.at_level(logging.WARNING):
        assert not isinstance(open_records(str(tmp_path / "k")), SqliteStore)
    assert "a file per call" in caplog.text
