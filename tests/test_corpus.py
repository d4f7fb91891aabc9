from __future__ import annotations

import csv
import io
import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.folder import pdf
from nemoflows.errors import CorpusError
from nemoflows.search import chunks, readers
from nemoflows.search.corpus import scan
from nemoflows.search.readers import Document, documents


def only(name: str, data: str | bytes) -> Document:
    (document,) = documents(name, data if isinstance(data, bytes) else data.encode())
    return document


def outline(name: str, data: str | bytes) -> list[tuple[str, str]]:
    document = only(name, data)
    found = chunks.split(document.text, document.sections)
    return [(chunk.heading, document.text[chunk.start : chunk.end]) for chunk in found]


def make_pdf(*pages: str) -> bytes:
    return pdf([[(72, 700, 12, text)] for text in pages])


def names(corpus: Path) -> list[str]:
    return [file.name for file in scan(str(corpus)).files]


def reasons(corpus: Path) -> dict[str, str]:
    return {skipped.document: skipped.reason for skipped in scan(str(corpus)).skipped}


def test_files_come_in_order_of_their_names_and_hidden_ones_not_at_all(tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a/z.txt",
        "a.txt",
        ".git/x",
        "p/node_modules/y",
        "q/__pycache__/z",
        ".env",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    assert names(tmp_path) == ["a.txt", "a/z.txt", "b.txt"]
    assert reasons(tmp_path) == {}


def test_a_corpus_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("# One")
    assert names(tmp_path / "one.md") == ["one.md"]


@pytest.mark.parametrize("corpus", ["", "  ", "/no/such/folder", "s3x://bucket/prefix"])
def test_a_missing_corpus_is_named_with_what_to_do(corpus: str) -> None:
    with pytest.raises(CorpusError, match=r"(?i)give|check"):
        scan(corpus)


def test_no_link_out_of_the_corpus_is_followed(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (corpus / "file").symlink_to(tmp_path / "secret.txt")
    (corpus / "folder").symlink_to(tmp_path)
    (corpus / "broken").symlink_to(corpus / "nowhere")
    (corpus / "self").symlink_to(corpus / "self")
    (corpus / "up").symlink_to(corpus)
    assert names(corpus) == []
    found = reasons(corpus)
    assert "out of the corpus" in found["file"]
    assert "out of the corpus" in found["folder"]
    assert "No such file" in found["broken"]
    assert "points to itself" in found["self"]
    assert "a link to a folder" in found["up"]


def test_a_link_to_a_hidden_copy_inside_the_corpus_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "a.txt").write_text("mounted by Kubernetes")
    (tmp_path / "a.txt").symlink_to("..data/a.txt")
    (tmp_path / "again.txt").symlink_to("b.txt")
    (tmp_path / "b.txt").write_text("plain")
    assert names(tmp_path) == ["a.txt", "b.txt"]
    assert "indexed itself" in reasons(tmp_path)["again.txt"]


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert names(tmp_path) == []
        assert {"a pipe", "a socket"} == {r.split(" but ")[1] for r in reasons(tmp_path).values()}


def test_a_name_that_is_not_utf8_is_reported_escaped(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text")
    assert reasons(tmp_path) == {"caf\\udce9.txt": "its name is not UTF-8"}


def test_a_file_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(readers.MAX_TEXT_BYTES + 1)
    corpus = scan(str(tmp_path))
    with pytest.raises(CorpusError, match="64 MiB"):
        corpus.read(corpus.files[0], limit_bytes=readers.limit_bytes("large.txt"))


def test_a_file_that_is_gone_since_the_scan_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    corpus = scan(str(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match="unreadable: No such file"):
        corpus.read(corpus.files[0], limit_bytes=10)


def test_a_fresh_file_has_no_signature_to_trust(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("text")
    assert scan(str(tmp_path)).files[0].signature == ""


def test_line_ends_and_a_byte_order_mark_keep_their_offsets(tmp_path: Path) -> None:
    content = "\ufeffone\r\ntwo\rthree\n\u2028four é \U0001d518"
    (tmp_path / "a.txt").write_bytes(content.encode())
    with (tmp_path / "a.txt").open(encoding="utf-8", newline="") as file:
        assert only("a.txt", content.encode()).text == file.read() == content


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve".encode("utf-16"), "naïve"),
        ("naïve".encode("utf-32"), "naïve"),
        (b"# -*- coding: latin-1 -*-\nx = 'na\xefve'", "# -*- coding: latin-1 -*-\nx = 'naïve'"),
    ],
)
def test_a_declared_encoding_is_used_where_utf8_fails(data: bytes, text: str) -> None:
    assert readers.decode(data) == text


@pytest.mark.parametrize(
    "data", [b"\xe9\xe8\xf1\xfc\xe4", b"\x89PNG\r\n\x1a\n\0\0", b"text\0text", b"a\x01\x02\xff\xfe"]
)
def test_what_is_no_text_is_said_to_be_binary(data: bytes) -> None:
    with pytest.raises(CorpusError, match="binary"):
        readers.decode(data)


def test_markdown_headings_make_a_path_and_fences_hide_them() -> None:
    text = "Intro\n\n# A\n\none\n\n## B ##\ntwo\n```\n# no heading\n```\nC\n=\n\nD\n-----\nlast\n"
    assert outline("a.md", text) == [
        ("", "Intro"),
        ("A", "# A\n\none"),
        ("A > B", "## B ##\ntwo\n```\n# no heading\n```\nC\n="),
        ("A > D", "D\n-----\nlast"),
    ]


def test_only_marks_apart_from_its_words_close_a_heading() -> None:
    found = [heading for heading, _ in outline("a.md", "# C#\n\na\n\n# Go ##\n\nb\n\n# F##\n\nc")]
    assert found == ["C#", "Go", "F##"]


def test_a_heading_of_spaces_takes_no_time() -> None:
    """It took as long as the cube of their number: two thousand of them 19 s."""
    assert outline("a.md", f"# a{' ' * 10**6}b\n\nc")


def test_a_heading_without_a_body_joins_the_one_below_it() -> None:
    assert outline("a.md", "# Title\n\n## Part\n\ntext\n") == [
        ("Title > Part", "# Title\n\n## Part\n\ntext")
    ]


def test_underlined_titles_are_headings_in_rst_and_plain_text() -> None:
    top = "=====\nTitle\n=====\n\nintro\n\n"
    text = top + "Part\n----\n\nbody\n\nSub\n~~~\n\ndeep\n\nNext\n----\n\nend\n"
    found = [heading for heading, _ in outline("README", text)]
    assert found == ["Title", "Title > Part", "Title > Part > Sub", "Title > Next"]


def test_a_docstring_is_a_passage_under_its_qualified_name() -> None:
    source = (
        '"""Module é words."""\nimport os\n\n\nclass Shop:\n    """Sell things."""\n\n'
        '    @property\n    def price(self) -> int:\n        """Return "€" cents."""\n'
        "        return 1\n\n"
        "    rest = 2\n\n\nasync def close():\n    await x\n"
    )
    found = outline("pkg/shop.py", source)
    assert ("pkg.shop", '"""Module é words."""') in found
    assert ("pkg.shop.Shop", '"""Sell things."""') in found
    assert ("pkg.shop.Shop.price", '"""Return "€" cents."""') in found
    assert ("pkg.shop.Shop.price", "@property\n    def price(self) -> int:") in found
    assert ("pkg.shop.Shop", "rest = 2") in found
    assert ("pkg.shop.close", "async def close():\n    await x") in found


@pytest.mark.parametrize("source", ["def broken(:\n", "print 'two'\n", "(" * 5000])
def test_python_that_does_not_parse_is_text(source: str) -> None:
    assert only("a.py", source).sections == []


def test_html_is_read_as_a_browser_shows_it() -> None:
    page = (
        "<html><head><title>My\n page</title><style>p{}</style></head><body><script>bad()</script>"
        "<h1>Intro</h1><p>Hello <b>bold</b>, world.\n next</p><pre>a\n  b</pre>"
        "<table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2 &amp; 3</td></tr></table>"
        "<h2>Sub</h2><ul><li>one<li>two</ul><!-- no --></body></html>"
    )
    assert outline("a.html", page) == [
        (
            "My page > Intro",
            "Intro\n\nHello bold, world. next\n\na\n  b\n\n| x | y |\n| 1 | 2 & 3 |",
        ),
        ("My page > Intro > Sub", "Sub\n\none\ntwo"),
    ]


def test_html_nested_deeper_than_the_stack_is_read() -> None:
    assert only("a.html", "<div>" * 20_000 + "deep").text == "deep"


def test_html_names_its_own_encoding() -> None:
    page = '<meta charset="windows-1252"><p>caf\xe9</p>'.encode("latin-1")
    assert only("a.htm", page).text == "café"


def test_a_pdf_has_a_section_per_page() -> None:
    assert outline("a.pdf", make_pdf("First words", "Second words")) == [
        ("page 1", "First words"),
        ("page 2", "Second words"),
    ]


def test_a_pdf_is_known_by_its_content_too() -> None:
    assert only("report", make_pdf("Words")).text == "Words"


def test_a_broken_an_encrypted_and_an_empty_pdf_say_so() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    encrypted = io.BytesIO()
    writer.write(encrypted)
    for data in (encrypted.getvalue(), make_pdf("words")[:60], b"%PDF-1.7 junk"):
        with pytest.raises(CorpusError, match="broken or encrypted"):
            only("a.pdf", data)
    with pytest.raises(CorpusError, match="OCR"):
        only("a.pdf", make_pdf(""))


ROWS = [
    {"id": 7, "Title": "First  row", "text": "Body one.", "tags": ["b", "a"], "empty": None},
    {"id": 8, "Title": "", "text": "Body two.", "tags": [], "empty": None},
]


def test_each_row_of_a_table_is_a_document(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    parquet = list(documents("t.parquet", (tmp_path / "t.parquet").read_bytes()))
    lines = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    assert parquet == list(documents("t.parquet", (tmp_path / "t.parquet").read_bytes()))
    assert [(d.name, d.text, [s.heading for s in d.sections]) for d in parquet] == [
        ("t.parquet#0", 'Body one.\n\nid: 7\ntags: ["b", "a"]', ["First row"]),
        ("t.parquet#1", "Body two.\n\nid: 8\ntags: []", []),
    ]
    assert [d.text for d in documents("t.jsonl", lines.encode())] == [d.text for d in parquet]


def test_a_table_without_a_text_column_shows_every_column() -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=";").writerows([["name", "city"], ["Ada", "London\nUK"]])
    (row,) = documents("people.csv", sink.getvalue().encode())
    assert row.text == "name: Ada\ncity: London UK", "a value stays beside its name"
    assert [section.heading for section in row.sections] == ["Ada"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", b'{"text": '),
        ("a.csv", b"a,b\n1,2,3\n"),
        ("a.parquet", b"PAR1 junk PAR1"),
    ],
)
def test_a_broken_table_says_so(name: str, data: bytes) -> None:
    with pytest.raises(CorpusError, match="broken table"):
        list(documents(name, data))


def test_a_row_may_hold_what_text_cannot() -> None:
    (row,) = documents("a.jsonl", b'{"text": "lone \\ud800 and \\u0000"}')
    assert row.text == "lone ? and \ufffd"


SUFFIXES = (".txt", ".md", ".rst", ".py", ".html", ".pdf", ".csv", ".jsonl", ".parquet", "")


@given(st.sampled_from(SUFFIXES), st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused_under_any_name(suffix: str, data: bytes) -> None:
    try:
        found = list(documents(f"a{suffix}", data))
    except CorpusError:
        return
    for document in found:
        document.text.encode()
        chunks.split(document.text, document.sections)


def test_a_byte_order_mark_hides_no_heading() -> None:
    assert outline("a.md", "\ufeff# One\n\ntext")[0][0] == "One"
    assert outline("a.py", '\ufeff"""Doc."""\nx = 1\n')[0] == ("a", '"""Doc."""')


def test_a_folder_that_became_a_link_since_it_was_listed_is_not_followed(tmp_path: Path) -> None:
    for name in ("corpus/d", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.md").write_text(name)
    found = scan(str(tmp_path / "corpus"))
    (tmp_path / "corpus/d").rename(tmp_path / "gone")
    (tmp_path / "corpus/d").symlink_to(tmp_path / "outside")
    with pytest.raises(CorpusError, match="unreadable"):
        found.read(found.files[0], limit_bytes=99)
