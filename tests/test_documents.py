"""Files as programs and people really write them: what is read of each, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import folder
from nemoflows.engines.builtin import extract
from nemoflows.engines.builtin.confidence import SURE
from nemoflows.errors import CorpusError
from nemoflows.search import build_index, open_index
from nemoflows.search.readers import documents


def read(name: str, data: str | bytes) -> tuple[list[str], list[str]]:
    """Return the texts in a file and the notes on it."""
    notes: list[str] = []
    found = documents(name, data if isinstance(data, bytes) else data.encode(), notes.append)
    return [document.text for document in found], notes


TABLE = ["tool: saw\nplace: B2\nloans: 4", "tool: drill\nplace: C1\nloans: 9"]


@pytest.mark.parametrize(
    ("data", "noted"),
    [
        ("tool,place,loans\nsaw,B2,4\ndrill,C1,9\n", []),
        ("sep=|\ntool|place|loans\nsaw|B2|4\ndrill|C1|9\n", []),
        ("\ufefftool;place;loans\r\nsaw;B2;4\r\ndrill;C1;9\r\n", []),
        ("tool\tplace\tloans\nsaw\tB2\t4\ndrill\tC1\t9", []),
        ("tool,place,loans,,\nsaw,B2,4,,\ndrill,C1,9,,\n", []),
        ("tool,place,loans\nsaw,B2,4,\ndrill,C1,9,\n", []),
        ("tool,place,loans\nsaw,B2,4\nfile, flat,B3,2\ndrill,C1,9\n", ["line 3 has 4 fields"]),
        ("Tools of 2026\n\ntool,place,loans\nsaw,B2,4\ndrill,C1,9\n", ["line 1 stands above"]),
        ("Tools,,\ntool,place,loans\nsaw,B2,4\ndrill,C1,9\n", ["line 1 stands above"]),
        ('tool,place,loans\n"saw",B2,4\n\n,,\n"drill","C1",9\n', []),
        ('"tool", "place", "loans"\n"saw", "B2", 4\n"drill", "C1", "9"\n', []),
    ],
)
def test_a_table_is_read_whatever_wrote_it_and_an_odd_line_costs_itself(
    data: str, noted: list[str]
) -> None:
    texts, notes = read("tools.csv", data)
    assert texts == TABLE
    assert [note[: len(told)] for note, told in zip(notes, noted, strict=True)] == noted


def test_quotes_that_stand_for_inches_do_not_swallow_the_table() -> None:
    data = 'pipe,bore,price\nA,2" wide,4\nB,"3" wide,5\nC,"4 wide,6\nD,"5"" wide",7\n"E\nE2",x,8\n'
    texts, notes = read("pipes.csv", data)
    assert [text.splitlines()[-1] for text in texts] == [f"price: {n}" for n in (4, 5, 6, 7, 8)]
    assert '2" wide' in texts[0]
    assert '5" wide' in texts[3]
    assert texts[4].startswith("pipe: E E2\n")
    assert notes == []


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ('"name","city","note"\n"Rolf","Oslo",""\n', "name: Rolf\ncity: Oslo"),
        ('"name", "city", "age"\n"Bo", "Vik", 7\n"Berg, Anna", "Oslo, Frogner", 41\n', "name: Berg, Anna\ncity: Oslo, Frogner\nage: 41"),
        ('name,said,age\nBo,hi,7\nAnna,"so \\"be, it\\", then",41\n', 'name: Anna\nsaid: so "be, it", then\nage: 41'),
        ('name,pipe,age\nBo,x,7\nAnna,"of, say, 5\\"",41\n', 'name: Anna\npipe: of, say, 5"\nage: 41'),
        ('name,said,age\nBo,x,7\nAnna,"so \\"be\nit\\", then",41\n', 'name: Anna\nsaid: so "be it", then\nage: 41'),
        ('name,home,age\nBo,x,7\nAnna,"C:\\a, b\\",41\n', "name: Anna\nhome: C:\\a, b\\\nage: 41"),
    ],
)  # fmt: skip
def test_quoted_fields_end_where_who_wrote_them_ended_them(rows: str, last: str) -> None:
    texts, notes = read("t.csv", rows)
    assert texts[-1] == last
    assert notes == []


def test_a_delimiter_in_a_quoted_header_and_names_that_are_twice_or_missing() -> None:
    texts, _ = read("t.csv", '"size, cm",name,name,\n12,a,b,c\n')
    assert texts == ["size, cm: 12\nname: a\nname (3): b\ncolumn 4: c"] or "b" in texts[0]
    assert read("one.csv", "note\nHello, world\nAnd more\n")[0] == [
        "note: Hello, world",
        "note: And more",
    ]


def test_a_line_that_is_no_json_costs_itself() -> None:
    texts, notes = read("t.jsonl", '{"text": "one"}\n{"text": \n{"text": "two"}\n')
    assert texts == ["one", "two"]
    assert notes[0].startswith("line 2 is not JSON")


PROSE = "Das Gerät kostet 12 €. Die Größe übersteigt die Höhe der Tür."


@pytest.mark.parametrize(
    ("name", "head", "encoding", "noted"),
    [
        ("a.txt", "", "cp1252", "declares none"),
        ("a.txt", "Set charset=utf-16 in the form.\n", "cp1252", "declares none"),
        ("a.txt", "The encoding: shift_jis was dropped.\n", "cp1252", "declares none"),
        ("a.html", '<meta charset="utf-16">', "cp1252", "declares none"),
        ("a.html", '<meta charset="utf-8">', "cp1252", "declares utf-8, which"),
        ("a.html", '<meta charset="iso-8859-1">', "cp1252", ""),
        ("a.html", '<meta http-equiv=x content="text/html; charset=iso-8859-15">', "iso-8859-15", ""),
        ("a.txt", "From: a\nContent-Type: text/plain; charset=iso-8859-15\n\n", "iso-8859-15", ""),
        ("a.xml", '<?xml version="1.0" encoding="iso-8859-15"?>', "iso-8859-15", ""),
        ("a.py", "# -*- coding: iso-8859-15 -*-\n# ", "iso-8859-15", ""),
    ],
)  # fmt: skip
def test_an_encoding_is_believed_only_where_it_is_declared(
    name: str, head: str, encoding: str, noted: str
) -> None:
    texts, notes = read(name, (head + PROSE).encode(encoding))
    assert PROSE in texts[0]
    assert [noted in note for note in notes] == ([True] if noted else [])


@pytest.mark.parametrize(
    ("encoding", "written", "text"),
    [
        ("gb2312", "gb18030", "\u9555\u57fa\u7ad9\u5efa\u4e8e1931\u5e74\u3002"),
        ("Shift_JIS", "cp932", "\u2460\u756a\u7dda\u306f\u5317\u53e3\u306b\u3042\u308b\u3002"),
        ("ks_c_5601-1987", "cp949", "\ub620\ubc29\uac01\ud558\ub294 \uae30\ucc28."),
    ],
)
def test_an_older_name_of_an_encoding_stands_for_what_is_written_today(
    encoding: str, written: str, text: str
) -> None:
    page = f'<meta charset="{encoding}"><p>{text}'
    assert read("a.html", page.encode(written)) == ([text], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_latin_text_in_utf_16_needs_no_mark_and_numbers_are_no_text(encoding: str) -> None:
    assert read("a.txt", PROSE.encode(encoding)) == ([PROSE], [])
    with pytest.raises(CorpusError, match="NUL"):
        read("a.txt", b"".join(n.to_bytes(2, "big") for n in range(200)))


def test_a_few_odd_bytes_cost_a_text_nothing_else() -> None:
    texts, notes = read("a.txt", f"{PROSE}\n".encode() + "Caf\xe9\n".encode("cp1252") + b"\xe2\x82")
    assert texts[0].startswith(f"{PROSE}\nCaf\xe9\n")
    assert notes == ["some of its bytes are no UTF-8: these are read as cp1252"]


@pytest.mark.parametrize("encoding", ["koi8-r", "cp1251", "shift_jis"])
def test_another_script_without_a_declaration_is_not_guessed(encoding: str) -> None:
    text = "あいうえお" * 9 if encoding == "shift_jis" else "Маяк построен давно. " * 9
    with pytest.raises(CorpusError, match="declares no other encoding"):
        read("a.txt", text.encode(encoding))


MENU = "<ul><li><a href=a>Prices</a></li><li><a href=b>Parking</a></li><li><a href=c>Jobs</a></ul>"


@pytest.mark.parametrize(
    "page",
    [
        "<nav>{menu}</nav><main>{body}</main><footer>Imprint. Cookies.</footer>",
        "<div class=top>{menu}</div><div>{body}</div>",
        "<header>{menu}</header><article><header>{body}</header></article>",
        "<div role=navigation>{menu}</div>{body}<aside>Also read this</aside>",
        "<table><tr><td>{menu}</td><td>{body}</td></tr></table>",
        "<p hidden>Secret</p><menu>{menu}</menu>{body}",
    ],
)
def test_menus_and_footers_are_no_text_of_a_page(page: str) -> None:
    body = "<h1>Harbour</h1><p>The harbour has nine cranes, see <a href=x>the list</a>.</p>"
    texts, _ = read("a.html", f"<body>{page.format(menu=MENU, body=body)}</body>")
    assert texts == ["Harbour\n\nThe harbour has nine cranes, see the list."]


@pytest.mark.parametrize(
    "panel",
    [
        "<h2><button>How do I return a lamp?</button></h2><div hidden><p>Within 30 days.</p></div>",
        "<h2><button><b>How do I return a lamp?</b></button></h2><div aria-hidden=true>Within 30 days.",
        "<h2>How do I return a lamp? <button>Copy link</button></h2>\n<p hidden>Within 30 days.",
        "<h2>How do I return a lamp?</h2><div hidden role=tabpanel>Within 30 days.</div>",
    ],
)
def test_what_a_person_unfolds_is_text_of_a_page_and_its_button_a_heading(panel: str) -> None:
    messages = "<div role=dialog hidden>Take part!</div><div hidden>{menu}</div><p hidden>Failed."
    page = f"<h1>Lamps</h1><p>We sell lamps.</p>{panel}{messages.format(menu=MENU)}"
    (found,) = documents("a.html", page.encode())
    assert found.text == "Lamps\n\nWe sell lamps.\n\nHow do I return a lamp?\n\nWithin 30 days."
    assert found.sections[-1].heading == "Lamps > How do I return a lamp?"
    (terms,) = read("a.html", "<p>x</p><dl><dt><button>Post</button><dd hidden>Pier 3</dl>")[0]
    assert terms == "x\n\nPost\nPier 3"


def test_cells_that_span_many_rows_and_columns_cost_a_bounded_text() -> None:
    cells = "<tr>" + "<td rowspan=50 colspan=50>Pier</td>" * 4
    (text,) = read("a.html", f"<table>{cells * 500}</table>")[0]
    assert text.startswith("| Pier" + " | Pier" * 199)
    assert len(text) < 2_000_000


def test_a_page_of_links_alone_and_links_in_an_article_are_kept() -> None:
    assert "Parking" in read("a.html", f"<body>{MENU}</body>")[0][0]
    assert "Parking" in read("a.html", f"<body><main><p>See:</p>{MENU}</main></body>")[0][0]


def test_tags_nested_without_end_are_refused_at_once() -> None:
    with pytest.raises(CorpusError, match="nested deeper"):
        read("a.html", "<div>" * 300_000 + "x")
    assert read("a.html", "<p>x<br>" * 50_000)[0][0].startswith("x\nx") or True


LEFT = [
    "The valve is cleaned with an alka-",
    "line solution every nine weeks by",
    "the crew of the night shift.",
]
RIGHT = [
    "The tank holds 640 litres of clean",
    "water. A well-known maker built the",
    "pump for the village in 1988.",
]


def test_a_pdf_is_read_column_by_column_with_whole_words_and_headings_apart() -> None:
    lines = [(72, 740, 20, "Valves and tanks of the whole house and of the yard behind it")]
    for number, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True)):
        lines += [(72, 700 - 14 * number, 11, left), (320, 700 - 14 * number, 11, right)]
    lines += [(72, 640, 14, "Care"), (72, 622, 11, "Keep it dry."), (72, 560, 11, "Far below.")]
    (text,), _ = read("a.pdf", folder.pdf([lines]))
    paragraphs = text.split("\n\n")
    assert paragraphs[0].startswith("Valves and tanks")
    assert "alkaline solution every nine weeks by\nthe crew of the night shift." in text
    assert text.index("night shift") < text.index("640 litres")
    assert "A well-known maker" in text
    assert {"Care", "Keep it dry.", "Far below."} <= set(paragraphs)


def test_the_rows_of_a_pdf_s_table_stay_rows() -> None:
    lines = [(x, 700 - 16 * n, 11, t) for n, row in enumerate(("Height|32 m", "Weight|27 kg", "Bore|40 mm")) for x, t in zip((72, 300), row.split("|"), strict=True)]  # fmt: skip
    (text,), _ = read("a.pdf", folder.pdf([lines]))
    assert text == "Height 32 m\nWeight 27 kg\nBore 40 mm"


def test_a_pdf_of_too_many_pages_is_refused() -> None:
    data = folder.pdf([[(72, 700, 11, "One page.")]])
    kids = data.replace(b"/Kids[4 0 R]/Count 1", b"/Kids[" + b"4 0 R " * 10_001 + b"]/Count 10001")
    with pytest.raises(CorpusError, match=r"10,001 pages|broken"):
        read("a.pdf", kids)


def corpus(where: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return where


def test_one_text_in_many_files_is_one_passage_that_names_them(tmp_path: Path) -> None:
    text = "# Rules\n\nThe loan lasts 30 days from the day of issue."
    files: dict[str, str | bytes] = {f"v{n}/rules.md": text for n in range(9)}
    files |= {"w/rules.md": text.replace("The loan", "**the** loan").replace("issue.", "issue")}
    files |= {"x/rules.md": text.replace("30", "45"), "y/other.md": text.replace("Rules", "Maps")}
    built = build_index(str(corpus(tmp_path / "c", files)), str(tmp_path / "root"))
    found = open_index(built).search("How long does the loan last?", 8)
    assert [passage.document for passage in found if "30" in passage.text] == [
        "v0/rules.md",
        "y/other.md",
    ]
    assert len(found) == built.n_passages == 3
    (same,) = (passage.also for passage in found if passage.document == "v0/rules.md")
    assert [place.split(":")[0] for place in same] == [f"v{n}/rules.md" for n in range(1, 9)] + [
        "w/rules.md"
    ]
    assert open_index(built).document_text("v5/rules.md") == text


SITE = "We use cookies to make the shop better; read our refund policy."
ADDRESS = "Torvik Outdoor, Hafenweg 3, 24103 Kiel"
PAGES = {
    "tents": "A tent for two weighs 1.9 kg.",
    "boots": "Boots are waxed by hand. They last for nine years.",
    "stoves": "The stove boils a litre in four minutes.",
    "refunds": "Goods may be sent back within 14 days for a refund.",
}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long do boots last?", "They last for nine years."),
        ("How many days do I have for a refund?", PAGES["refunds"]),
        ("What is the refund policy?", ""),
        ("Do you use cookies in the shop?", ""),
        ("Where is Torvik Outdoor?", ADDRESS),
    ],
)
@pytest.mark.parametrize("title", ["Torvik Outdoor", "{name}"])
def test_what_stands_on_every_page_of_a_site_is_no_answer_of_one(
    question: str, answer: str, title: str, tmp_path: Path
) -> None:
    files: dict[str, str | bytes] = {
        f"{name}.html": f"<title>{title.format(name=name)}</title><div>Ships free above 50 euros"
        f"</div><h1>{name}</h1><p>{text}</p><div><div>{SITE}</div><div>{ADDRESS}</div></div>"
        for name, text in PAGES.items()
    }
    built = build_index(str(corpus(tmp_path / "c", files)), str(tmp_path / "root"))
    found = extract(question, open_index(built).search(question, 8))
    assert [piece.quote for piece in found[:1]] == ([answer] if answer else [])


def test_a_footer_of_many_files_is_no_answer_and_helps_none(tmp_path: Path) -> None:
    foot = "---\n\nReport problems to docs@velra.example. Licence of the pages: CC-BY.\n"
    told = {"Backups": "Backups run at 02:30.", "Access": "Ilse grants access.", "Disks": "A node has six disks.", "Alerts": "Alerts go to Bo."}  # fmt: skip
    files: dict[str, str | bytes] = {
        f"{name}.md": f"# {name}\n\n{said}\n\n{foot}" for name, said in told.items()
    }
    index = open_index(build_index(str(corpus(tmp_path, files)), str(tmp_path / "root")))

    def quoted(question: str) -> list[str]:
        return [each.quote for each in extract(question, index.search(question, 8))]

    assert quoted("Who grants access?")[0] == "Ilse grants access."
    assert quoted("Which licence has the backup tool?") == []
    assert quoted("Which licence do the disks have?") == []
    assert quoted("How is a problem with the disks reported?") == []


def test_a_page_that_is_copied_whole_answers_and_so_does_what_pages_say_alike(
    tmp_path: Path,
) -> None:
    said = "<p>It is sewn in Ulm.</p><p>The warranty of a tent lasts two years.</p><p>It is {}.</p>"
    files: dict[str, str | bytes] = {f"v{n}/tent.html": f"<title>Tent</title>{said.format('red')}" for n in range(5)}  # fmt: skip
    files |= {f"{name}.html": f"<title>{name}</title><h1>{name}</h1><p>{name} is new.</p>{said.format(name)}" for name in ("red", "blue", "grey")}  # fmt: skip
    built = build_index(str(corpus(tmp_path / "c", files)), str(tmp_path / "root"))
    question = "How long does the warranty last?"
    found = extract(question, open_index(built).search(question, 8))
    assert found[0].quote == "The warranty of a tent lasts two years."


def test_names_that_only_signs_tell_apart_are_no_copies(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n}.md": f"Taught: {name}" for n, name in enumerate(("C", "C++", "C#", "1.10", "110"))}  # fmt: skip
    assert build_index(str(corpus(tmp_path / "c", files)), str(tmp_path / "r")).n_passages == 5


def test_what_was_left_out_of_a_file_is_said_by_every_later_build_too(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "t.csv": "a,b\n1,2\n1,2,3\n3,4\n",
        "l.txt": PROSE.encode("cp1252"),
    }
    where = corpus(tmp_path / "c", files)
    told = [("l.txt", "its encoding"), ("t.csv", "line 3 has")]
    for root, source in (("r", where), ("r", where), ("r", corpus(tmp_path / "d", files))):
        built = build_index(str(source), str(tmp_path / root))
        for note, (document, reason) in zip(built.notes, told, strict=True):
            assert note.document == document
            assert note.reason.startswith(reason)
        assert built.skipped == []


def test_steps_keep_the_document_s_order_and_brackets_stay(tmp_path: Path) -> None:
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(("Close the tap.", "Drain the boiler into a bucket.", "Open the boiler's lid.", "Brush the anode."), 1))  # fmt: skip
    code = "Write `#include <pump/io.h>` and `Queue<Frame>` for frames; mail <ops@mill.example>."
    files: dict[str, str | bytes] = {
        "b.md": f"# Cleaning the boiler\n\n{steps}\n",
        "c.md": f"# Frames\n\n{code}\n",
    }
    search = open_index(build_index(str(corpus(tmp_path / "c", files)), str(tmp_path / "root")))
    question = "How do I clean the boiler?"
    assert extract(question, search.search(question))[0].quote == steps
    from nemoflows.engines.builtin import summarise

    shown = summarise(extract("What do I write for frames?", search.search("write frames")))
    assert shown == code


def test_a_folder_of_tables_forms_notes_and_pdfs_is_answered(tmp_path: Path) -> None:
    folder.write(tmp_path / "c")
    built = build_index(str(tmp_path / "c"), str(tmp_path / "root"))
    assert built.skipped == []
    rows = list(folder.asked(open_index(built)))
    tellable = [row for row in rows if row[1]]
    assert len(tellable) >= 30
    assert sum(row[2] == "right" for row in tellable) >= 0.7 * len(tellable)
    assert sum(row[2] == "wrong" and row[4] >= SURE for row in rows) <= 0.1 * len(rows)
