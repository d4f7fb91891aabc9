"""One store: the same promises on a disk and in an object store."""

from __future__ import annotations

import ast
import errno
import os
import re
import stat
import uuid
from pathlib import Path

import numpy as np
import pytest

from nemoflows.errors import BadInput, CorpusError, EndpointDown
from nemoflows.storage.beneath import Root
from nemoflows.storage.blobs import RecordReader, RecordWriter, offsets_path, open_blob
from nemoflows.storage.filesystem import local_path
from nemoflows.storage.integrity import (
    Damaged,
    add_checksum,
    damaged,
    sums,
    verify_checksum,
    wrong_sizes,
)
from nemoflows.storage.local import LocalStore
from nemoflows.storage.opening import open_records, open_store
from nemoflows.storage.store import Records, Store, translated
from tests.support import ROOT
from tests.test_layers import FILES


@pytest.fixture(params=["local", "memory"])
def bulk(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    local = request.param == "local"
    return open_store(str(tmp_path / "s") if local else f"memory://{uuid.uuid4()}")


@pytest.fixture(params=["sqlite", "files", "memory", "s3"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Records:
    """Return a root as a journal has it, of every kind: they make the same promises."""
    if request.param == "s3":
        return open_records(f"{request.getfixturevalue('s3')}/{uuid.uuid4()}")
    roots = {"sqlite": f"{tmp_path / 's'}", "files": f"file://{tmp_path / 's'}"}
    return open_records(roots.get(request.param, f"memory://{uuid.uuid4()}"))


def test_what_is_written_comes_back_and_is_replaced_whole(store: Records) -> None:
    assert store.read("a/b.txt") is None
    store.write("a/b.txt", b"four")
    assert store.read("a/b.txt") == b"four"
    assert store.read("a/b.txt/c") is None
    store.write("a/b.txt", b"")
    assert store.read("a/b.txt") == b""


def test_a_store_lists_measures_and_removes_what_lies_in_it(store: Records) -> None:
    assert store.names("a") == []
    for name in ("a/c/d.txt", "a/b.txt", "ab/e.txt"):
        store.write(name, b"four")
    assert store.sizes("a") == {"a/b.txt": 4, "a/c/d.txt": 4}
    assert store.names("") == ["a/b.txt", "a/c/d.txt", "ab/e.txt"]
    for _ in range(2):
        store.remove("a/b.txt")
    assert store.names("a") == ["a/c/d.txt"]
    assert store.read("a/b.txt") is None


def test_what_is_moved_lies_under_the_new_name_alone(store: Records) -> None:
    store.write("open/a", b"1")
    store.move("open/a", "done/deep/a")
    assert store.names("") == ["done/deep/a"]
    with pytest.raises(CorpusError, match="cannot be moved"):
        store.move("open/a", "done/b")


def test_a_folder_appears_whole_and_the_first_one_stays(bulk: Store) -> None:
    for text in ("first", "second"):
        with bulk.folder("x/f", last="last") as work:
            (work / "sub").mkdir()
            (work / "sub" / "a").write_text("a")
            (work / "last").write_text(text)
            assert bulk.names("") == ([] if text == "first" else ["x/f/last", "x/f/sub/a"])
        if bulk.is_local:
            assert bulk.read("x/f/last") == b"first"
    assert bulk.names("x") == ["x/f/last", "x/f/sub/a"]
    assert wrong_sizes(bulk, "x/f", {"sub/a": [1, 0], "last": [9, 0], "b": [0, 0]}) == [
        "last",
        "b",
    ]


def test_a_folder_whose_making_fails_does_not_appear(bulk: Store) -> None:
    def make() -> None:
        with bulk.folder("x/f", last="last") as work:
            (work / "last").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(CorpusError, match="f cannot be written: ZeroDivisionError"):
        make()
    assert bulk.names("") == []


def test_lines_grow_on_a_disk_and_are_refused_by_an_object_store(store: Records) -> None:
    grown = [store.append("lines/a", line) for line in (b"1\n", b"2\n")]
    assert grown == [store.is_local] * 2
    assert store.read("lines/a") == (b"1\n2\n" if store.is_local else None)


def test_appending_leaves_no_file_open(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        store.append(f"lines/{number}", b"1\n")
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("bulk", [False, True])
def test_everything_is_its_owner_s_alone(bulk: bool, umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        store = open_store(f"{tmp_path}/between/root", bulk=bulk)
        store.write("a/b/c.txt", b"")
        store.append("lines", b"1")
        with store.folder("x/y", last="z") as work:
            (work / "deep").mkdir()
            for name in ("z", "deep/z"):
                (work / name).write_bytes(b"")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert len(modes) == 11


def test_a_home_that_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / ".nemoflows/index").mkdir(parents=True)
    (tmp_path / ".nemoflows").chmod(0o755)
    open_store(f"{tmp_path}/.nemoflows/index", bulk=True)
    assert stat.S_IMODE((tmp_path / ".nemoflows").stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write("a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CorpusError, match=r"3 bytes.*No space"):
        store.write("a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert store.read("a") == b"old"


def test_a_file_half_written_by_another_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-nemoflows-1").write_bytes(b"half")
    assert LocalStore(tmp_path).names("") == []


def test_no_root_is_made_by_looking(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/s")
    assert (store.read("a"), store.names(""), list(tmp_path.iterdir())) == (None, [], [])


def test_a_root_without_a_name_or_a_known_scheme_is_refused() -> None:
    with pytest.raises(BadInput, match="root has no name"):
        open_store(" ")
    with pytest.raises(CorpusError, match="s3x"):
        open_store("s3x://bucket")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a/b/", "/a/b"),
        ("file:///a", "/a"),
        ("local:///a", "/a"),
        ("~/a", "HOME/a"),
        ("a", "HERE/a"),
        ("s3://a/b", None),
        ("memory://a", None),
        ("simplecache::s3://a/b", None),
    ],
)
def test_a_uri_leads_to_a_disk_or_elsewhere(uri: str, path: str | None) -> None:
    expected = path and path.replace("HOME", str(Path.home())).replace("HERE", str(Path.cwd()))
    assert local_path(uri) == (expected and Path(expected))


class ReadTimeoutError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "local", "kind"),
    [
        (ReadTimeoutError("1 s"), False, EndpointDown),
        (OSError(errno.EIO, "500"), False, EndpointDown),
        (OSError(errno.EBUSY, "503 Slow Down"), False, EndpointDown),
        (OSError(errno.EIO, "a broken disk"), True, CorpusError),
        (PermissionError(errno.EACCES, "denied"), False, CorpusError),
    ],
)
def test_what_passes_by_itself_is_worth_another_attempt(
    error: Exception, local: bool, kind: type[Exception]
) -> None:
    told = re.escape(f"X failed: {type(error).__name__}")
    with pytest.raises(kind, match=told) as caught, translated("X failed", local=local):
        raise error
    assert type(caught.value) is kind


def test_ours_and_what_is_asked_for_pass_untranslated() -> None:
    for error in (BadInput("ours"), FileNotFoundError("a")):
        passing = translated("X failed", but=(FileNotFoundError,))
        with pytest.raises(type(error)) as caught, passing:
            raise error
        assert caught.value is error


def test_a_link_or_a_pipe_is_not_read_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("d/a")
    (tmp_path / "folder").symlink_to("d")
    os.mkfifo(tmp_path / "pipe")
    with Root(tmp_path) as root:
        assert root.read("d/a", limit_bytes=5)[0] == b"12345"
        for name in ("link", "folder/a", "pipe", "d", "../x", "/etc/passwd", "d/./a", "d//a"):
            with pytest.raises(OSError, match=r"links|a directory|regular|not a path"):
                root.read(name, limit_bytes=5)
        with pytest.raises(OSError, match="longer than 3"):
            root.read("d/a", limit_bytes=3)
        assert [name for name, _ in root.entries("d")] == ["a"]
        with pytest.raises(OSError, match="a directory"):
            root.entries("folder")


def test_one_function_makes_every_file_system() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name[:6] == "fsspec" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module)[:6] == "fsspec")
    }
    assert users == {"nemoflows/storage/filesystem.py"}


WHOLE = add_checksum(b"text")


@pytest.mark.parametrize("data", [b"", b"short", WHOLE[:-1], WHOLE + b"x"])
def test_a_checksum_holds_only_for_what_it_was_added_to(data: bytes) -> None:
    assert verify_checksum(WHOLE, "f") == b"text"
    assert verify_checksum(add_checksum(b""), "f") == b""
    with pytest.raises(Damaged, match=re.escape(f"f ({len(data)} bytes)")):
        verify_checksum(data, "f")


def test_files_that_changed_or_are_missing_are_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("f/a", "f/sub/b", "f/c"):
        store.write(name, b"four")
    expected = sums(tmp_path / "f")
    assert damaged(store, "f", expected) == []
    store.write("f/a", b"fouR")
    store.remove("f/sub/b")
    assert damaged(store, "f", expected) == ["a", "sub/b"]


def test_a_record_that_changed_or_is_not_there_is_not_read(bulk: Store, tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    writer = RecordWriter(path)
    for record in (b"one", b"", b"three"):
        writer.add(record)
    writer.close()
    table = np.load(offsets_path(path))
    bulk.write("rows.txt", path.read_bytes())
    rows = RecordReader(open_blob(bulk, "rows.txt"), table, name="rows.txt")
    assert (len(rows), rows.read([2, 0, 1]), rows.read([])) == (3, [b"three", b"one", b""], [])
    with pytest.raises(Damaged, match=r"Record 3 of rows\.txt"):
        rows.read([0, 3])
    bulk.write("rows.txt", b"onethreE")
    changed = RecordReader(open_blob(bulk, "rows.txt"), table, name="rows.txt")
    assert changed.read([0, 1]) == [b"one", b""]
    with pytest.raises(Damaged, match=r"Record 2 of rows\.txt"):
        changed.read([0, 2])
