"""Mails, Word, slides, sheets and notebooks: what is read of each."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date
from typing import Any

import pytest

from nemoflows.errors import CorpusError
from tests.test_documents import read

MAIL = """From: Greta Holm <greta@example.org>
Subject: =?utf-8?q?Schl=C3=BCssel?=
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: {type}; charset=utf-8
Content-Transfer-Encoding: {how}

{text}
--b
Content-Type: application/pdf; name=plan.pdf
Content-Disposition: attachment; filename=plan.pdf

x
--b--
"""


@pytest.mark.parametrize(
    ("kind", "how", "text"),
    [
        ("text/plain", "quoted-printable", "Sie liegen bei Frau M=C3=BCller im Erdgesc=\nhoss."),
        ("text/plain", "base64", "U2llIGxpZWdlbiBiZWkgRnJhdSBNw7xsbGVyIGltIEVyZGdlc2Nob3NzLg=="),
        ("text/html", "8bit", "<p>Sie liegen bei Frau <b>M&uuml;ller</b>\nim Erdgeschoss.</p>"),
    ],
)
def test_a_mail_is_its_head_and_its_text_whatever_carries_it(
    kind: str, how: str, text: str
) -> None:
    texts, _ = read("a.eml", MAIL.format(type=kind, how=how, text=text))
    head = "From: Greta Holm <greta@example.org>\nSubject: Schl\xfcssel"
    said = "Sie liegen bei Frau M\xfcller im Erdgeschoss."
    assert texts == [f"{head}\n\n{said}\n\nAttached: plan.pdf"]


def part(kind: str, text: str, *more: str) -> str:
    return "\n".join([f"Content-Type: {kind}", *more, "", text, ""])


def parted(kind: str, boundary: str, *parts: str) -> str:
    whole = "".join(f"--{boundary}\n{each}" for each in parts)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{whole}--{boundary}--\n"


PAGE, FILE = "<p>The valve is in <b>drawer 9</b>.", "Content-Disposition: attachment; filename="


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            parted("mixed", "a", part("text/plain", "One."), part("image/png", "x"), part("text/plain", "Two.")),
            ["One.", "Two."],
        ),
        (
            parted("alternative", "a", part("text/plain", "  "), part("text/html", PAGE)),
            ["The valve is in drawer 9."],
        ),
        (
            parted(
                "alternative", "a", part("text/plain", "Plain."),
                parted("related", "b", part("text/html", PAGE), part("image/png", "x", f"{FILE}a.png")),
            ),
            ["Plain."],
        ),
        (
            parted(
                "mixed", "a", part("text/html", PAGE), part("text/plain", "Ring Bo.", f"{FILE}call.txt"),
                part("application/octet-stream", "a,b", f"{FILE}T.CSV"), part("application/pdf", "x", f"{FILE}p.pdf"),
            ),
            ["The valve is in drawer 9.", "Attached: call.txt", "Ring Bo.", "Attached: T.CSV", "a,b", "Attached: p.pdf"],
        ),
        (part("text/plain", "Sch\xf6n."), ["Sch\xf6n."]),
        (part("text/plain; charset=us-ascii", "Sch\xf6n."), ["Sch\xf6n."]),
        (part("text/plain; charset=x-unheard-of", "Sch\xf6n."), ["Sch\xf6n."]),
        (part("message/rfc822", f"Subject: Gr\xfc\xdfe\n{part('text/plain', 'Bis bald.')}"), ["Subject: Gr\xfc\xdfe", "Bis bald."]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_all_text_of_a_mail_is_read_whatever_its_encoding(
    body: str, said: list[str], encoding: str
) -> None:
    texts, notes = read("a.eml", f"Subject: L\xf6sung\n{body}".encode(encoding))
    assert texts[0].split("\n\n") == ["Subject: L\xf6sung", *said]
    assert notes == []


WORDML = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def test_boxes_notes_comments_and_changes_of_a_document_are_read() -> None:
    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    noted = document.add_paragraph()
    document.add_comment(noted.add_run("The bell rings at noon."), text="At one.", author="Per Lo")
    document.element.body.insert(1, parse_xml(
        f'<w:sdt xmlns:w="{WORDML}"><w:sdtContent><w:p><w:ins w:id="1"><w:r><w:t>Bo is the guard.'
        '</w:t></w:r></w:ins><w:del w:id="2"><w:r><w:delText>Olaf</w:delText></w:r></w:del><w:r>'
        "<w:pict><w:txbxContent><w:p><w:r><w:t>The key is with Rita.</w:t></w:r></w:p>"
        "</w:txbxContent></w:pict></w:r></w:p></w:sdtContent></w:sdt>"
    ))  # fmt: skip
    document.sections[0].footer.paragraphs[0].text = "Form 77-B"
    document.save(sink := io.BytesIO())
    texts, _ = read("a.docx", sink.getvalue())
    assert texts[0].split("\n\n") == [
        "The bell rings at noon.", "Per Lo: At one.", "Bo is the guard.", "The key is with Rita.",
        "Form 77-B",
    ]  # fmt: skip


def control(text: str) -> str:
    return f"<w:sdt><w:sdtContent>{text}</w:sdtContent></w:sdt>"


def run(text: str) -> str:
    return f"<w:r>{text}</w:r>"


def test_a_filled_form_s_values_and_what_its_margins_and_equations_say_are_read() -> None:
    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    words = {name: run(f"<w:t>{name}</w:t>") for name in ("Name", "Berth", "Rolf", "Since", "2031")}
    paragraphs = {name: f"<w:p>{told}</w:p>" for name, told in words.items()}
    cells = {name: f"<w:tc>{told}</w:tc>" for name, told in paragraphs.items()}
    nested = f"<w:tbl><w:tr>{cells['Since']}{cells['2031']}</w:tr></w:tbl>"
    table = (
        f'<w:tbl xmlns:w="{WORDML}"><w:tr>{cells["Name"]}{cells["Berth"]}</w:tr>'
        f"<w:tr><w:tc><w:p>{control(words['Rolf'])}</w:p></w:tc>"
        f'<w:tc><w:p><w:ins w:id="1">{run("<w:t>B7</w:t>")}</w:ins></w:p>{nested}<w:p/></w:tc></w:tr>'
        + control(f"<w:tr>{control(cells['Rolf'])}{cells['Berth']}</w:tr>")
        + '<w:tr><w:tc><w:tcPr><w:vMerge w:val="restart"/></w:tcPr>'
        f"{paragraphs['Name']}</w:tc>{cells['Rolf']}</w:tr><w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr>"
        '<w:p/></w:tc><w:tc><w:tcPr><w:gridSpan w:val="900000000"/></w:tcPr><w:p/></w:tc></w:tr></w:tbl>'
    )
    document.element.body.insert(0, parse_xml(table))
    maths = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    term = {name: f"<m:r><m:t>{name}</m:t></m:r>" for name in ("v=", "s", "t+1", "c", "2")}
    document.element.body.insert(1, parse_xml(
        f'<w:p xmlns:w="{WORDML}" xmlns:m="{maths}">{run("<w:t>Call 555</w:t><w:noBreakHyphen/>")}'
        f"{run('<w:t>0142: </w:t>')}<m:oMath>{term['v=']}<m:f><m:num>{term['s']}</m:num><m:den>"
        f"{term['t+1']}</m:den></m:f><m:sSup><m:e>{term['c']}</m:e><m:sup>{term['2']}</m:sup></m:sSup>"
        "</m:oMath></w:p>"
    ))  # fmt: skip
    head = document.sections[0].header
    head.add_table(1, 2, docx.shared.Pt(9)).cell(0, 1).text = "Form 12-C"
    document.save(sink := io.BytesIO())
    assert read("a.docx", sink.getvalue())[0][0].split("\n\n") == [
        "| Name | Berth |\n|---|---|\n| Rolf | B7 Since 2031 |\n| Rolf | Berth |\n| Name | Rolf |\n| Name |"
        + "  |" * 50,
        "Call 555-0142: v=s/(t+1)c^2",
        "|  | Form 12-C |\n|---|---|",
    ]


def test_a_line_break_of_a_slide_and_a_folded_line_part_words_as_they_are_meant() -> None:
    import pptx

    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Lock\v4", "Opens at nine\vShuts at five"
    slide.notes_slide.notes_text_frame.text = "Ask Bo\vor Ann"
    slides.save(sink := io.BytesIO())
    texts, _ = read("a.pptx", sink.getvalue())
    assert texts == ["Lock 4\n\nOpens at nine\nShuts at five\n\nAsk Bo\nor Ann"]
    event = (
        "BEGIN:VEVENT\r\nSUMMARY:The meeting of the harb\r\n our board in Troms\xc3\r\n\t\xb8\r\n"
    )
    texts, notes = read("a.ics", f"{event}END:VEVENT\r\n".encode("latin-1"))
    assert "SUMMARY:The meeting of the harbour board in Troms\xf8\r\nEND" in texts[0]
    assert notes == []


TABLED = "<table><tr><th>Berth<th>Fee<tr><td>B7<td>31</table>"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"data": {"text/plain": "<pandas.io.formats.style.Styler at 0x7f0A>", "text/html": [TABLED]}}, "| Berth | Fee |\n| B7 | 31 |"),
        ({"data": {"text/plain": ["<IPython.core.display.HTML object>"], "text/html": "<b>Nine</b> cranes"}}, "Nine cranes"),
        ({"data": {"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": ["**Nine**\n", "cranes"]}}, "**Nine**\ncranes"),
        ({"data": {"text/plain": "HBox(children=(Label(value='x'),\n))", "text/html": "<p>Done</p>"}}, "Done"),
        ({"data": {"text/plain": "   Berth  Fee\n0  B7     31", "text/html": TABLED}}, "Berth  Fee\n0  B7     31"),
        ({"data": {"text/plain": "<map at 0x7f>"}}, "<map at 0x7f>"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "no\nberth", "traceback": ["x" * 99]}, "ValueError: no berth"),
    ],
)  # fmt: skip
def test_a_notebook_s_output_is_read_as_a_person_sees_it(output: dict[str, Any], said: str) -> None:
    cell = {"cell_type": "code", "source": "show()", "outputs": [{"output_type": "display_data"} | output]}  # fmt: skip
    texts, _ = read("a.ipynb", json.dumps({"nbformat": 4, "cells": [cell]}))
    assert texts == [f"show()\n\n{said}"]


def test_groups_and_charts_of_slides_and_merged_cells_of_sheets_are_read() -> None:
    import openpyxl
    import pptx
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    slides = pptx.Presentation()
    shapes = slides.slides.add_slide(slides.slide_layouts[6]).shapes
    shapes.add_group_shape().shapes.add_textbox(0, 0, 9, 9).text_frame.text = "Nils digs."
    made: Any = CategoryChartData
    numbers = made()
    numbers.categories = ["2029", "2030"]
    numbers.add_series("Tons", (412, 655))
    shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, 9, 9, numbers)
    slides.save(sink := io.BytesIO())
    texts, _ = read("a.pptx", sink.getvalue())
    assert texts == [
        "slide 1\n\nNils digs.\n\n|  | Tons |\n|---|---|\n| 2029 | 412 |\n| 2030 | 655 |"
    ]
    book = openpyxl.Workbook()
    for row in (["Berth", "Boat"], ["B1", "Alma"], [None, "Coda"], ["B2", "Brisa"]):
        book.active.append(row)
    book.active.merge_cells("A2:A3")
    book.save(sink := io.BytesIO())
    texts, _ = read("a.xlsx", sink.getvalue())
    assert "Berth: B1\nBoat: Coda" in texts[0]


@pytest.mark.parametrize(
    ("value", "written", "shown"),
    [
        (0.19, "0%", "19%"),
        (0.285, "0.00%", "28.50%"),
        (0.125, "0%", "13%"),
        (0.0625, "0.0##%", "6.25%"),
        (0.5, "0.0##%", "50.0%"),
        (1e300, "0%", str(int(1e300))),
        (-0.07, "0%;[Red]-0%", "-7%"),
        (12.5, '#,##0.00\\ "€"', "12.50 €"),
        (12.5, "#,##0.00\\ [$€-407]", "12.50 €"),
        (1312, '_-* #,##0.00\\ "kr"_-;\\-* #,##0.00\\ "kr"_-', "1312.00 kr"),
        (-12, '"$"#,##0.00_);[Red]("$"#,##0.00)', "-$12.00"),
        (12, "$#,##0", "$12"),
        (70, '0" kg"', "70 kg"),
        (612, "00000", "00612"),
        (7.5, "0.00", "7.5"),
        (7.5, "[$-409]0.00", "7.5"),
        (7.5, "[Blue]General", "7.5"),
        (1500, '0.0,"k"', "1500"),
        (0.5, "# ?/?", "0.5"),
        (1500, '[>=1000]0"!"', "1500"),
        (True, "0%", "True"),
        ("n/a", "0%", "n/a"),
        (date(2026, 5, 1), "dd/mm/yyyy", "2026-05-01"),
    ],
)
def test_numbers_of_a_sheet_are_read_as_they_are_shown(
    value: object, written: str, shown: str
) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["Part", "Rate", "Note"])
    book.active.append(["Valve", value])
    book.active["B2"].number_format = written
    book.active["C4"] = "x"
    book.save(sink := io.BytesIO())
    assert read("a.xlsx", sink.getvalue())[0][0].startswith(
        f"Sheet\n\nPart: Valve\nRate: {shown}\n"
    )


def test_comments_on_cells_stand_in_their_rows() -> None:
    import openpyxl
    from openpyxl.comments import Comment

    book = openpyxl.Workbook()
    for row in (["Part", "Price"], ["Valve", 31], ["Hose", 12]):
        book.active.append(row)
    book.active["B1"].comment = Comment("Ann:\nin SEK", "Ann")
    book.active["B3"].comment = Comment(
        "[Threaded comment]\n\nYour version shows it. Learn more: there\n\nComment:\n    Sold out.",
        "tc={0A}",
    )
    book.create_sheet("Empty")
    book.save(sink := io.BytesIO())
    told = "Part: Valve\nPrice (Ann: in SEK): 31\n\nPart: Hose\nPrice (Ann: in SEK): 12 (Sold out.)"
    assert read("a.xlsx", sink.getvalue()) == ([f"Sheet\n\n{told}"], [])
    broken = io.BytesIO()
    with zipfile.ZipFile(sink) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"<x" if "comment" in name and "xml" in name else old.read(name))
    texts, notes = read("a.xlsx", broken.getvalue())
    assert "Part: Hose\nPrice: 12" in texts[0]
    assert "Sheet: its comments cannot be read" in notes[0]


def office(kind: str) -> bytes:
    """Return a small file of the kind."""
    import docx
    import openpyxl
    import pptx

    sink = io.BytesIO()
    if kind == "docx":
        text = docx.Document()
        text.add_heading("Boiler room", 1)
        text.add_paragraph("The boiler was made by Torvik.")
        table = text.add_table(2, 2)
        for cell, told in zip((c for row in table.rows for c in row.cells), ("Part", "Cost", "Valve", "31"), strict=True):  # fmt: skip
            cell.text = told
        text.add_paragraph("Drain it.", "List Number")
        text.add_paragraph("Fill it.", "List Number")
        text.save(sink)
    elif kind == "pptx":
        slides = pptx.Presentation()
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = "Plan", "The roof is done in May."
        slide.notes_slide.notes_text_frame.text = "Ask Rolf for the crane."
        slides.save(sink)
    else:
        book = openpyxl.Workbook()
        for row in (["Stock of May"], [], ["part", "on hand", "since"], ["valve", 4, date(2026, 5, 1)], ["hose", 7.5, None]):  # fmt: skip
            book.active.append(row)
        book.save(sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "docx",
            "Boiler room\n\nThe boiler was made by Torvik.\n\n| Part | Cost |\n|---|---|\n| Valve | 31 |\n\n- Drain it.\n- Fill it.",
        ),
        ("pptx", "Plan\n\nThe roof is done in May.\n\nAsk Rolf for the crane."),
        ("xlsx", "Sheet\n\npart: valve\non hand: 4\nsince: 2026-05-01\n\npart: hose\non hand: 7.5"),
    ],
)
def test_office_files_are_read_with_their_headings_and_tables(kind: str, text: str) -> None:
    texts, notes = read(f"a.{kind}", office(kind))
    assert texts == [text]
    assert [note.split(":")[0] for note in notes] == ["Sheet, line 1 stands above the header"] * (
        kind == "xlsx"
    )
    with pytest.raises(CorpusError, match="broken or encrypted"):
        read(f"a.{kind}", b"PK\x03\x04 junk")
