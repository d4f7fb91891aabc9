"""A file that is too dear costs itself: the others of its folder are indexed, and it is named."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import folder
from nemoflows.errors import CorpusError
from nemoflows.search import build_index, fragments, open_index, workers
from nemoflows.search.workers import Workers, is_dear

GOOD = {
    "good.md": b"# Mill\n\nThe mill has nine sails.",
    "z.pdf": folder.pdf([[(72, 700, 11, "Ten cogs.")]]),
}


def dear_pdf(n_shown: int) -> bytes:
    """Return a small PDF whose one page unpacks to a great many drawn letters."""
    packed = zlib.compress(b"BT /F1 12 Tf (A) Tj ET\n" * n_shown, 9).decode("latin-1")
    page = folder.pdf([[(72, 700, 11, "x")]]).decode("latin-1")
    shown = page[page.index("<</Length") : page.index("endstream")]
    length = f"<</Length {len(packed)}/Filter/FlateDecode>>stream\n{packed}\n"
    return page.replace(shown, length).encode("latin-1")


def built(where: Path, files: dict[str, bytes]) -> tuple[dict[str, str], list[str]]:
    """Return what was skipped of a folder, and the documents that were read."""
    corpus = where / "corpus"
    corpus.mkdir()
    for name, data in files.items():
        (corpus / name).write_bytes(data)
    index = build_index(str(corpus), str(where / "root"))
    found = {passage.document for passage in open_index(index).passages()}
    return {skipped.document: skipped.reason for skipped in index.skipped}, sorted(found)


@pytest.mark.parametrize("bound", ["time", "memory"])
def test_a_file_beyond_the_bounds_is_skipped_with_the_reason_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "time":
        monkeypatch.setattr(workers, "BASE_CPU_S", 2)
        bad = {"bad.pdf": dear_pdf(3_000_000)}
    else:
        bad = {"bad.txt": b"zq" * 2**24 + b" word" * 2**22}
        monkeypatch.setattr(workers, "_MODULE", "tests.small_worker")
    skipped, found = built(tmp_path, {**GOOD, **bad})
    assert found == sorted(GOOD), skipped
    assert bound in skipped[next(iter(bad))]


def test_a_reader_that_is_killed_costs_its_file_alone() -> None:
    with closing(Workers()) as pool:
        assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1
        (worker,) = pool._idle
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(CorpusError, match="crashed"):
            pool.make("a.pdf", GOOD["z.pdf"])
        assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1


@pytest.mark.parametrize("reader", ["tests.dying_worker", "tests.bare_worker"])
def test_a_file_whose_reader_ended_is_read_by_the_next_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_MODULE", reader)
        skipped, found = built(tmp_path, GOOD)
    assert found == ["good.md"]
    assert ("crashed" if "dying" in reader else "module pypdfium2") in skipped["z.pdf"]
    again = build_index(str(tmp_path / "corpus"), str(tmp_path / "root"))
    assert (again.skipped, again.n_documents) == ([], 2)


def test_a_reader_takes_no_module_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pypdfium2", "selectolax", "json"):
        (tmp_path / f"{name}.py").write_text(f"open('ran', 'a').write({name!r})")
    monkeypatch.chdir(tmp_path)
    with closing(Workers()) as pool:
        assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1
        assert pool.make("a.html", b"<p>Nine sails.</p>" + b" " * 2**17).n_passages == 1
        assert pool._idle, "it was read by a process"
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_refused_leaves_its_reader_at_work() -> None:
    with closing(Workers()) as pool:
        pool.make("a.pdf", GOOD["z.pdf"])
        (worker,) = pool._idle
        with pytest.raises(CorpusError, match="broken or encrypted"):
            pool.make("b.pdf", b"%PDF-1.7 junk")
        assert pool._idle == [worker]


def test_what_a_worker_makes_is_what_is_made_here() -> None:
    with closing(Workers()) as pool:
        for name, data in {**GOOD, "long.md": GOOD["good.md"] * 50_000}.items():
            assert pool.make(name, data) == fragments.make(name, data)


def test_where_no_process_can_be_had_files_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_MODULE", "nemoflows.no_such_module")
    with closing(Workers()) as pool:
        assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with closing(Workers()) as pool:
        assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1


def test_descriptors_beyond_a_thousand_are_waited_for() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 1_400:
        pytest.skip("this machine allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1_400), limits[1]))
    held = [os.dup(0) for _ in range(1_100)]
    try:
        with closing(Workers()) as pool:
            assert pool.make("a.pdf", GOOD["z.pdf"]).n_passages == 1
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_only_what_may_be_dear_goes_to_a_worker() -> None:
    cheap = {"a.md": b"x" * 2**19, "a.html": b"x" * 2**15, "a.csv": b"x" * 2**19}
    dear = {"a.md": b"x" * 2**21, "a.html": b"x" * 2**18, "a.pdf": b"x", "a": b"%PDF-1.4"}
    assert not any(is_dear(name, data) for name, data in cheap.items())
    assert all(is_dear(name, data) for name, data in dear.items())


def test_a_worker_has_none_of_our_environment_and_ends_with_us() -> None:
    code = (
        "import os, sys\nfrom nemoflows.search.workers import Workers\n"
        "pool = Workers()\npool.make('a.pdf', bytes.fromhex(sys.argv[1]))\n"
        "pid = pool._idle[0]._process.pid\n"
        "names = open(f'/proc/{pid}/environ').read()\n"
        "assert 'SECRET' not in names, names\nprint(pid, flush=True)\nos._exit(0)"
    )
    command = [sys.executable, "-c", code, GOOD["z.pdf"].hex()]
    environment = {**os.environ, "SECRET_KEY": "SECRET"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    pid = int(done.stdout)
    while (stat := Path(f"/proc/{pid}/stat")).exists():
        if stat.read_text().split()[2] == "Z":
            break
