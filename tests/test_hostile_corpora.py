from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemoflows.errors import CorpusError
from nemoflows.search import build_index, chunks, open_index, readers
from nemoflows.search.corpus import scan
from nemoflows.search.outlines import MAX_HEADING_CHARS, shortened
from nemoflows.search.readers import documents
from tests.support import ROOT
from tests.test_corpus import make_pdf, only, outline
from tests.test_search import documents as listed


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def write(folder: Path, pages: dict[str, str | bytes]) -> str:
    folder.mkdir(exist_ok=True)
    for name, page in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(page if isinstance(page, bytes) else page.encode())
    return str(folder)


def test_a_file_named_like_a_row_does_not_answer_for_it(tmp_path: Path) -> None:
    pages = {"t.jsonl": '{"text": "the true row"}', "t.jsonl#0": "impostor", "u#0": "plain"}
    index = build_index(write(tmp_path / "c", {**pages}), str(tmp_path / "root"))
    search = open_index(index)
    assert listed(search) == ["t.jsonl#0", "u#0"]
    assert search.document_text("t.jsonl#0") == "the true row"
    assert [(s.document, "row of t.jsonl" in s.reason) for s in index.skipped] == [
        ("t.jsonl#0", True)
    ]


def test_names_with_spaces_newlines_and_marks_are_found_by_name(tmp_path: Path) -> None:
    names = ["a b.txt", "a\nb.txt", 'q"\\:0-5.md', "ünï.txt", "#1", "x:0-3"]
    pages: dict[str, str | bytes] = {name: f"page {n}" for n, name in enumerate(names)}
    search = open_index(build_index(write(tmp_path / "c", pages), str(tmp_path / "root")))
    assert listed(search) == sorted(names)
    for passage in search.search("page", 10):
        assert passage.text == pages[passage.document]
        assert passage.id == f"{passage.document}:{passage.start}-{passage.end}"
        assert search.document_text(passage.document) == passage.text


def nested(folder: Path, levels: int) -> None:
    """Make folders by handle: their whole path is longer than the system takes."""
    handle = os.open(folder, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d" * 20, dir_fd=handle)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
        file = os.open("f.txt", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
        os.write(file, b"level %d" % level)
        os.close(file)
    os.close(handle)


def test_folders_too_deep_for_a_path_cost_only_themselves(tmp_path: Path) -> None:
    nested(tmp_path, 250)
    found = scan(str(tmp_path))
    assert 150 < len(found.files) < 250
    assert [s.reason for s in found.skipped] == ["unreadable: File name too long"] * len(
        found.skipped
    )
    assert found.skipped


AS_NOBODY = """
import os, sys
from nemoflows.search import build_index
ready, corpus, root = sys.argv[1:]
build_index(ready, root)  # loads what a user without rights may not be able to load
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
from nemoflows.errors import CorpusError
try:
    print(build_index(corpus, root).model_dump_json())
except CorpusError as error:
    print(error.message)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(public: Path, corpus: str, root: Path) -> str:
    ready = write(public / "ready", {"a.txt": "text"})
    command = [sys.executable, "-c", AS_NOBODY, ready, corpus, str(root)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_what_a_user_may_not_read_is_named_and_the_rest_indexed(public: Path) -> None:
    pages: dict[str, str | bytes] = {"a.txt": "open", "secret.txt": "s"}
    pages |= {"closed/x.txt": "s", "no_entry/x.txt": "s", "no_list/x.txt": "s"}
    corpus = Path(write(public / "c", pages))
    modes = {"secret.txt": 0, "closed": 0, "no_entry": 0o444, "no_list": 0o111}
    for name, mode in modes.items():
        (corpus / name).chmod(mode)
    root = public / "root"
    root.mkdir()
    root.chmod(0o777)
    for name in ("fragments", "indexes", "segments", "catalogues"):
        (root / name).mkdir()
        (root / name).chmod(0o777)
    index = json.loads(as_nobody(public, str(corpus), root))
    for name in modes:
        (corpus / name).chmod(0o755)
    assert index["n_documents"] == 1
    assert {s["document"]: s["reason"] for s in index["skipped"]} == dict.fromkeys(
        ("closed", "no_entry/x.txt", "no_list", "secret.txt"), "unreadable: Permission denied"
    )


def test_a_root_that_may_not_be_written_is_named(public: Path) -> None:
    corpus = write(public / "c", {"a.txt": "other text"})
    root = public / "root"
    said = as_nobody(public, corpus, root)
    if os.geteuid() == 0:
        assert "cannot be read" in said
        assert "Permission denied" in said


def test_a_refusal_to_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Path(write(tmp_path / "c", {"a.txt": "open", "b.txt": "in use"}))
    for path in corpus.iterdir():
        os.utime(path, (0, 0))
    monkeypatch.setattr("nemoflows.search.corpus._SETTLED_S", -1.0)
    opened = os.open

    def refusing(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("b.txt"):
            raise OSError(24, "Too many open files")
        return opened(path, *more, **named)

    with monkeypatch.context() as refused:
        refused.setattr(os, "open", refusing)
        index = build_index(str(corpus), str(tmp_path / "root"))
    assert [s.reason for s in index.skipped] == ["unreadable: Too many open files"]
    assert build_index(str(corpus), str(tmp_path / "root")).n_documents == 2


def test_files_that_come_and_go_during_a_build_do_not_break_it(tmp_path: Path) -> None:
    pages: dict[str, str | bytes] = {f"{n}.txt": f"page {n}" for n in range(6)}
    corpus = Path(write(tmp_path / "c", pages))

    def disturb(stage: str, done: int, total: int) -> None:
        del total
        if (stage, done) == ("read", 1):
            (corpus / "3.txt").unlink()
            (corpus / "4.txt").write_text("page changed")
            (corpus / "9.txt").write_text("page new")

    root = str(tmp_path / "root")
    index = build_index(str(corpus), root, progress=disturb)
    assert [s.document for s in index.skipped] == ["3.txt"]
    assert open_index(index).document_text("4.txt") == "page changed"
    again = build_index(str(corpus), root)
    assert listed(open_index(again)) == ["0.txt", "1.txt", "2.txt", "4.txt", "5.txt", "9.txt"]
    assert again.corpus_hash == build_index(str(corpus), str(tmp_path / "clean")).corpus_hash


def test_a_file_that_grows_past_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    corpus = Path(write(tmp_path, {"a.txt": "small"}))
    found = scan(str(corpus))
    (corpus / "a.txt").write_text("grown " * 100)
    with pytest.raises(CorpusError, match="over the limit"):
        found.read(found.files[0], limit_bytes=10)


@pytest.mark.parametrize("below", [True, False])
def test_a_root_around_or_beside_the_corpus_hides_nothing_of_it(
    tmp_path: Path, below: bool
) -> None:
    pages: dict[str, str | bytes] = {"indexes/mine.txt": "kept", "fragments/of.txt": "kept too"}
    corpus = write(tmp_path / "c", pages)
    root = str(tmp_path) if below else corpus
    first = build_index(corpus, root)
    assert first.n_documents == 2
    assert build_index(corpus, root).uri == first.uri


def test_a_root_inside_the_corpus_is_known_through_a_link_too(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c", {"a.txt": "text"})
    (tmp_path / "link").symlink_to(corpus)
    root = str(tmp_path / "link" / "index")
    assert build_index(corpus, root).uri == build_index(corpus, root).uri


@pytest.mark.parametrize("corpus", ["nul\0byte", "/" + "long" * 2000])
def test_a_corpus_that_can_be_no_path_is_an_error(tmp_path: Path, corpus: str) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        build_index(corpus, str(tmp_path / "root"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_corpus(tmp_path: Path, device: str) -> None:
    with pytest.raises(CorpusError, match="a device"):
        build_index(device, str(tmp_path / "root"))


ENDLESS = {
    "a.md": "# " + "head ing " * 40_000 + "\n\nbody",
    "h.html": "<h1>Title<p>" + "some words here. <p>" * 5_000,
    "n.html": "<h1>Title<div>words " * 1_500,
    "w.html": "<h1><div>" * 1_500 + "words",
    "t.html": "<title>" + "ti tle " * 40_000 + "</title><p>words " * 900,
    "a.jsonl": json.dumps({"title": "ti tle " * 40_000, "text": "body words. " * 9_000}),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_heading_is_not_repeated_in_every_passage(name: str) -> None:
    (document,) = documents(name, ENDLESS[name].encode())
    found = chunks.split(document.text, document.sections)
    assert found
    assert max(len(chunk.heading) for chunk in found) <= 2 * MAX_HEADING_CHARS


def test_a_heading_that_html_forgets_to_end_stops_at_the_first_block() -> None:
    assert outline("a.html", "<h2>Title <b>bold</b><p>Text.")[0][0] == "Title bold"
    assert outline("a.html", "<h2><div>Title</div></h2><p>Text.")[0][0] == "Title"
    assert outline("a.html", "<h2>One<br>two</h2><p>Text.")[0][0] == "One two"


def test_a_title_too_long_for_a_heading_stays_searchable_as_text() -> None:
    title = "first " * 100 + "last"
    (row,) = documents("a.jsonl", json.dumps({"title": title, "text": "Body."}).encode())
    assert row.sections[0].heading == shortened(title)
    assert row.text == f"Body.\n\ntitle: {title}"


def test_a_short_title_is_kept_and_folded() -> None:
    assert shortened("  One \n two ") == "One two"
    assert shortened("x" * MAX_HEADING_CHARS) == "x" * MAX_HEADING_CHARS
    assert shortened("x" * (MAX_HEADING_CHARS + 1)) == "x" * (MAX_HEADING_CHARS - 1) + "…"


def test_a_table_that_unpacks_without_end_is_refused() -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 20_000])
    data = parquet(pa.table({"text": words}))
    assert len(data) < 5_000
    with pytest.raises(CorpusError, match=r"a table of more than 13,\d{3} rows"):
        list(documents("a.parquet", data))


def test_a_table_of_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_ROWS", 100)
    assert len(list(documents("a.csv", b"a\n" + b"1\n" * 99))) == 99
    with pytest.raises(CorpusError, match="split it"):
        list(documents("a.csv", b"a\n" + b"1\n" * 101))


def invalid_utf8() -> pa.Array:
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])


@pytest.mark.parametrize(
    "column",
    [invalid_utf8(), pa.array([2**31 - 1], pa.date32())],
    ids=["text that is no UTF-8", "a day beyond the calendar"],
)
def test_values_that_python_cannot_hold_make_a_broken_table(column: pa.Array) -> None:
    with pytest.raises(CorpusError, match="broken table"):
        list(documents("a.parquet", parquet(pa.table({"text": column}))))


WHOLE = {
    "a.parquet": parquet(pa.table({"title": ["a", "b"] * 9, "n": list(range(18))})),
    "a.pdf": make_pdf("First words", "Second words"),
    "a.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": ["x"]}]}).encode(),
    "a.jsonl": b'{"title": "a", "text": ["b", {"c": 1.5}]}\n' * 3,
}


@pytest.mark.parametrize("name", WHOLE)
def test_bytes_changed_at_random_are_read_or_refused(name: str) -> None:
    draws = random.Random(name)
    assert list(documents(name, WHOLE[name]))
    for _ in range(150):
        data = bytearray(WHOLE[name])
        for _ in range(draws.randint(1, 8)):
            data[draws.randrange(len(data))] = draws.randrange(256)
        try:
            found = list(documents(name, bytes(data)))
        except CorpusError:
            continue
        assert all(document.name.startswith(name) for document in found)


def cell(kind: str, source: str | list[str]) -> dict[str, object]:
    return {"cell_type": kind, "source": source}


def test_a_notebook_is_its_cells_under_their_headings() -> None:
    cells = [
        cell("markdown", ["# Fish\n", "Intro."]),
        cell("code", "# not a heading\nx = 1"),
        cell("markdown", "## Eels"),
        cell("code", ["y = 2\n", "z = 3"]),
    ]
    assert outline("a.ipynb", json.dumps({"cells": cells})) == [
        ("Fish", "# Fish\nIntro.\n\n# not a heading\nx = 1"),
        ("Fish > Eels", "## Eels\n\ny = 2\nz = 3"),
    ]


def test_a_notebook_of_format_3_is_read_too() -> None:
    cells = [{"cell_type": "code", "input": ["x = 1"]}, cell("markdown", "Text.")]
    text = only("a.ipynb", json.dumps({"worksheets": [{"cells": cells}]})).text
    assert text == "x = 1\n\nText."


def test_what_a_notebook_printed_stands_behind_its_cell() -> None:
    outputs: list[dict[str, object]] = [
        {"output_type": "stream", "name": "stdout", "text": ["50 %\r", "\x1b[1mAcc\x1b[0m: .93\n"]},
        {"output_type": "stream", "name": "stderr", "text": "FutureWarning"},
        {"output_type": "execute_result", "data": {"text/plain": "   n\n0  7", "text/html": "<p>"}},
        {"output_type": "display_data", "data": {"text/plain": "<Figure>", "image/png": "iVB"}},
        {"output_type": "error", "ename": "KeyError", "traceback": ["long"]},
        {"output_type": "pyout", "text": "x" * 20_000},
        {"output_type": "pyout", "text": "<Figure>", "png": "iVB"},
        {},
    ]
    notes: list[str] = []
    told = json.dumps({"cells": [cell("code", "fit()") | {"outputs": outputs}, cell("raw", "z")]})
    [found] = documents("a.ipynb", told.encode(), notes.append)
    assert found.text == f"fit()\n\nAcc: .93\n\nn\n0  7\n\n{'x' * 10_000}\n\nz"
    assert notes == ["cell 1 printed 20,000 characters, read to 10,000"]
    odds = [
        "null",
        "[1]",
        '[{"text": [{}]}]',
        '[{"data": [2]}]',
        '[{"name": [], "text": {"a": 1}}]',
    ]
    for odd in odds:
        one = f'{{"cell_type": "raw", "source": "z", "outputs": {odd}}}'
        assert only("a.ipynb", f'{{"cells": [{one}]}}').text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": [1]}', '{"cells": [{}]}'])
def test_what_is_no_notebook_says_so(text: str) -> None:
    with pytest.raises(CorpusError, match="broken notebook"):
        only("a.ipynb", text)


QUERIES = [
    "",
    "\0",
    "the of and",
    ".*[(?+\\",
    "\ud800 puffin",
    "puffin " * 100_000,
    "x" * 1_000_000,
]


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_any_query_finds_what_shares_a_term_and_nothing_else(tmp_path: Path, query: str) -> None:
    corpus = write(tmp_path / "c", {"a.txt": "A puffin.", "b.txt": "A cod."})
    search = open_index(build_index(corpus, str(tmp_path / "root")))
    expected = ["a.txt"] if "puffin" in query else []
    for k in (1, 10**9, 10**30):
        assert [passage.document for passage in search.search(query, k)] == expected
