"""Tables, forms, settings, logs and chats as people keep them: what a question gets of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemoflows.engines.builtin import extract, synthesise
from nemoflows.engines.builtin.confidence import SURE, confidence
from nemoflows.engines.builtin.prose import readable
from nemoflows.language.boxes import options
from nemoflows.language.sentences import sentences
from nemoflows.search import build_index, open_index
from nemoflows.search.readers import documents
from nemoflows.types import Evidence, Finding

HIRE = 'Tool,Note,Hook\r\nAuger,"Sharp,\r\nkeep it covered",K4\r\nAdze,none,K9\r\n'
DEPTHS = "Well,Depth,Level,\nNorth,14 m,9 m,x\nSouth,11 m,8 m,y\n"
GRID = """Keys
====

+------+----------------+
| Key  | Meaning        |
+======+================+
| F6   | lifts the gate |
+------+----------------+
"""
SETTINGS = """[pump.east]
# in bar
max_pressure = 6
keeper = Jana Wirth

[pump.west]
max_pressure = 4
keeper = Ole Brandt
"""
PROPERTIES = "pump.east.bar=6\npump.west.bar=4\nalarm.mail=watch@example.org\n"
FORM = """APPLICATION FOR A BERTH

Surname ............ Kowalska
Length of boat _____ 7.4 m
Draught . . . . . .  1.1 m
"""
CHAT = """[10:04] Anna: who has the key to the shed?
[10:06] Bo: the key is in the blue box under the stairs
[10:07] Anna: thanks, and the code of the alarm?
[10:09] Bo: alarm code is 7731
"""
LOG = """2031-02-03 04:11:09 INFO worker 3 begins
2031-02-03 04:12:44 ERROR the disk /var/spool is full
2031-02-03 04:15:01 INFO worker 3 ends
"""
NOTE = "---\ntitle: The dyke\nraised: 2029-10-02\n---\n\nThe dyke is 11 km long.\n"


def asked(folder: Path, name: str, text: str, question: str) -> tuple[list[Evidence], float]:
    (folder / "c").mkdir()
    (folder / "c" / name).write_bytes(text.encode())
    passages = open_index(build_index(str(folder / "c"), str(folder / "r"))).search(question, 8)
    found = extract(question, passages)
    return found, confidence(question, found, passages)


@pytest.mark.parametrize(
    ("name", "text", "question", "quote"),
    [
        ("hire.csv", HIRE, "On which hook is the auger?", "keep it covered\nHook: K4"),
        ("wells.csv", DEPTHS, "What is the depth of the North well?", "Well: North\nDepth: 14 m"),
        ("keys.rst", GRID, "What does F6 do?", "| F6   | lifts the gate |"),
        ("pump.ini", SETTINGS, "Who is the keeper of the west pump?", "keeper = Ole Brandt"),
        ("pump.toml", SETTINGS, "What is the max pressure of the east pump?", "max_pressure = 6"),
        ("shop.env", "SHOP_PORT=8443\nSHOP_OWNER=rita\n", "What is the shop port?", "PORT=8443"),
        ("a.properties", PROPERTIES, "What is the bar of the west pump?", "pump.west.bar=4"),
        ("form.txt", FORM, "What is the length of the boat?", "Length of boat _____ 7.4 m"),
        ("form.txt", FORM, "What is the draught?", "Draught . . . . . .  1.1 m"),
        ("chat.txt", CHAT, "Where is the key to the shed?", "the blue box under the stairs"),
        ("chat.txt", CHAT, "What is the code of the alarm?", "alarm code is 7731"),
        ("app.log", LOG, "Which disk is full?", "ERROR the disk /var/spool is full"),
        ("note.md", NOTE, "How long is the dyke?", "The dyke is 11 km long."),
    ],
)
def test_a_question_gets_the_line_that_says_it(
    name: str, text: str, question: str, quote: str, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, name, text, question)
    assert quote in found[0].quote


@pytest.mark.parametrize(
    ("question", "sure"),
    [
        ("How many seats has the Birch room?", True),
        ("What is the price of the Birch room?", False),
        ("Who cleans the Cedar room?", False),
    ],
)
def test_a_row_is_no_sure_answer_to_what_it_has_no_field_for(
    question: str, sure: bool, tmp_path: Path
) -> None:
    _, found = asked(tmp_path, "rooms.csv", "Room,Seats\nBirch,12\nCedar,30\n", question)
    assert (found >= SURE) is sure


TASKS = "# The new shed\n\n- [x] rent a van\n- [ ] order shelves\n- [x] tell the bank\n"
LEVEL_LOG = """2031-01-12T05:01:00Z level=warn msg="queue full" size=812
2031-01-12T05:02:00Z level=info msg="disk idle" size=0
"""
SEEN = """10.0.0.4 - - [03/Feb/2031:04:11:09 +0000] "GET /map.html HTTP/1.1" 200 5120 "-" "a/1"
10.0.0.9 - - [03/Feb/2031:04:12:44 +0000] "GET /tide.html HTTP/1.1" 503 17 "-" "a/1"
10.0.0.4 - - [03/Feb/2031:04:13:01 +0000] "GET /boats.html HTTP/1.1" 200 900 "-" "a/1"
"""
PROXY = """2031/02/03 04:11:09 [warn] 7#7: *1 a client body is buffered, client: 10.0.0.4
2031/02/03 04:12:44 [error] 7#7: *2 upstream timed out while reading, client: 10.0.0.9
"""
SLUICE = (
    "The sluice opens at low tide.[^1] It is wide.\n\n[^1]: Except in March, when it stays shut.\n"
)


@pytest.mark.parametrize(
    ("name", "text", "question", "quote"),
    [
        ("todo.md", TASKS, "What is still open?", "order shelves"),
        ("todo.md", TASKS, "Which tasks are finished?", "rent a van"),
        ("app.log", LEVEL_LOG, "What is the size of the queue?", 'msg="queue full" size=812'),
        ("seen.log", SEEN, "Which status did tide.html get?", '/tide.html HTTP/1.1" 503 17'),
        ("proxy.log", PROXY, "Which client timed out?", "upstream timed out while reading, client"),
        ("form.txt", "Name ___ Liv ___\nClub card ___ 4471 ___\n", "Which club card?", "4471"),
        ("a.md", SLUICE, "In which month does the sluice stay shut?", "Except in March"),
    ],
)
def test_boxes_logs_and_notes_answer_what_they_do_not_name(
    name: str, text: str, question: str, quote: str, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, name, text, question)
    assert quote in found[0].quote
    assert "\n2031" not in found[0].quote
    assert found[0].quote.count("10.0.0.") < 2


@pytest.mark.parametrize(
    ("name", "text", "question"),
    [
        ("a.csv", "Part,Bin\nvalve,A4\nclamp,\n", "In which bin is the clamp?"),
        ("a.md", "Dogs are allowed in the yard.", "Are horses allowed in the yard?"),
        ("a.md", "Marta Lind is an engineer.", "How old is Marta Lind?"),
        ("a.md", "We pay the baker Marta Berg by the hour.", "By what do we pay Marta Lind?"),
    ],
)
def test_what_lacks_what_is_asked_is_no_sure_answer(
    name: str, text: str, question: str, tmp_path: Path
) -> None:
    _, found = asked(tmp_path, name, text, question)
    assert found < SURE


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Safety ........ 3\nUse ........ 12\n", {"prose"}),
        ("width = 4\nheight = 9\n", {"code"}),
        ("```ini\n[a]\nwidth = 4\n```\n", {"code"}),
        ("The train leaves at\n10:30 and arrives late.\n", {"prose"}),
        ("12/03/2031, 10:04 - Anna: hello\n12/03/2031, 10:05 - Bo: hi\n", {"bullet"}),
        ("HOST=a\nPORT=1\n", {"record"}),
        ("[a]\nwidth = 4\n", {"record"}),
    ],
)
def test_contents_and_programs_are_no_records(text: str, kinds: set[str]) -> None:
    assert {each.kind for each in sentences(text)} == kinds


PUMPS = """{"pumps": [
  {"name": "east", "limits": {"bar": 6, "litres": 1.10}},
  {"name": "west", "limits": {"bar": 4, "litres": 2.40}, "keeper": "Ole Brandt"}],
 "alarm": {"siren": {"seconds": 45}, "mail": "watch@example.org"}}
"""
YARD = """<?xml version="1.0" encoding="UTF-8"?>
<y:yard xmlns:y="urn:yard" place="Sund">
  <!-- of 2031 -->
  <y:crane id="K4" tons="12"/><y:crane id="K9" tons="30"><y:fee currency="NOK">450</y:fee></y:crane>
  <y:note>The slip was <b>relaid</b> in 2029.</y:note>
</y:yard>
"""


PLIST = """<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>Dark</key><true/><key>Ports</key><array><integer>81</integer>
<integer>82</integer></array><key>Window</key><dict><key>Width</key><integer>800</integer></dict>
</dict></plist>"""
DRAWING = """<svg><title>Yard</title><path d="M1 2"/><text x="1">Inlet pressure 4.2 bar</text>
<text>Outlet <tspan>pressure</tspan> 6.8 bar</text></svg>"""


@pytest.mark.parametrize(
    ("name", "text", "question", "holds"),
    [
        ("a.json", PUMPS, "What is the bar limit of the west pump?", "limits bar: 4"),
        ("a.json", PUMPS, "How many litres is the limit of the east pump?", "limits litres: 1.10"),
        ("a.json", PUMPS, "How many seconds does the alarm siren last?", "siren seconds: 45"),
        ("a.json", "".join(PUMPS.split()), "Who is the keeper of the west pump?", "OleBrandt"),
        (
            "a.json",
            '// ours\n{"lamp": {"watt": 9,},}',
            "How many watt has the lamp?",
            "lamp watt: 9",
        ),
        (
            "a.json",
            '{"bolt": "M8"}\n{"bolt": "M9", "bin": "Q7"}',
            "Which bin has bolt M9?",
            "bin: Q7",
        ),
        ("a.xml", YARD, "How many tons does the crane K4 lift?", "tons: 12"),
        ("a.xml", YARD, "What is the fee of the crane K9?", "fee: 450"),
        ("a.xml", YARD, "When was the slip relaid?", "The slip was relaid in 2029."),
        ("a.xml", '<boat berth="17" owner="Ek"/>', "What is the berth of the boat?", "berth: 17"),
        ("a.plist", PLIST, "What is the width of the window?", "Window Width: 800"),
        ("a.plist", PLIST, "Which ports are there?", "Ports: 81, 82"),
        ("a.svg", DRAWING, "What is the outlet pressure?", "Outlet pressure 6.8 bar"),
        ("a.html", f"<p>Our yard.{DRAWING}", "What is the outlet pressure?", "Outlet pressure 6.8"),
    ],
)
def test_a_value_deep_in_json_or_xml_is_found_by_its_path(
    name: str, text: str, question: str, holds: str, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, name, text, question)
    assert holds in found[0].quote


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[" * 200 + "]" * 200),
        ("a.json", "{broken"),
        ("a.json", "{}"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "lots">]><a>&b;&b;</a>'),
        ("a.xml", "<a><b></a>"),
        ("a.json", "/*" * 200_000),
        ("a.json", '"' + '\\\\"' * 200_000),
        ("a.xml", "<a>" * 200 + "</a>" * 200),
    ],
)
def test_what_is_no_json_or_xml_that_can_be_trusted_stays_the_text_it_is(
    name: str, text: str
) -> None:
    assert [each.text for each in documents(name, text.encode())] == [text]


BERTHS = """# Berth

Surname: Kowalska
Power: [ ] none [x] shore line [ ] own
Shower: Yes [ ]  No [X]

Flag
\u2610 Danish
\u2612 Norse

## Before leaving

- [x] Shut the hatches
- [ ] Pay the dues
"""


@pytest.mark.parametrize(
    ("question", "quote", "shown"),
    [
        ("Which power is chosen?", "[x] shore line", "shore line."),
        ("Is a shower marked?", "No [X]", "No [X]."),
        ("Which flag was selected?", "\u2612 Norse", "Norse."),
        ("What is the surname?", "Surname: Kowalska", "Surname: Kowalska."),
        ("What is left open before leaving?", "[ ] Pay the dues", "Pay the dues."),
        ("What is checked before leaving?", "[x] Shut the hatches", "Shut the hatches."),
        ("Whose flag does Kowalska fly?", "\u2612 Norse", "Norse."),
        ("Quelle flag est choisie ?", "\u2612 Norse", "Norse."),
    ],
)
def test_a_box_says_what_is_chosen_and_what_is_open(
    question: str, quote: str, shown: str, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, "berth.md", BERTHS, question)
    assert found[0].quote == quote
    assert readable(found[0].quote) == shown


def test_all_that_is_ticked_of_one_question_is_the_answer_and_nothing_of_another(
    tmp_path: Path,
) -> None:
    page = (
        "<h1>Berth</h1><p>Extras: <input type=checkbox checked> linen <input type=checkbox> towels"
        " <input type=checkbox checked> bicycle</p><p>Pier: <input type=radio checked> north</p>"
    )
    found, _ = asked(tmp_path, "berth.html", page, "Which extras are chosen?")
    assert [each.quote for each in found] == ["[x] linen", "[x] bicycle"]
    assert synthesise("q", [Finding(question="q", evidence=found)]) == "linen. [1] bicycle. [2]"


def test_a_cell_that_spans_rows_or_columns_stands_in_each() -> None:
    table = (
        "<table><tr><th rowspan=2>Route<th colspan=2>Fare<tr><th>Adult<th>Child"
        "<tr><td rowspan=2>Vik<td>11<td>5<tr><td>13<td>6<tr><td>Alm<td colspan=2>7</table>"
        "<table><tr><td>a<td>b<tr><td rowspan=999>c</table>"
    )
    (text,) = [each.text for each in documents("fees.html", table.encode())]
    assert text == (
        "| Route | Fare | Fare |\n| Route | Adult | Child |\n| Vik | 11 | 5 |\n| Vik | 13 | 6 |\n"
        "| Alm | 7 | 7 |\n\n| a | b |\nc"
    )


def test_a_table_of_a_page_keeps_its_rows_and_its_empty_cells(tmp_path: Path) -> None:
    table = (
        "<table><thead><tr><th>Boat<th>Winter<th>Summer</thead>"
        "<tr><td>Dinghy<td><td>40<tr><td>Yacht<td><b>90</b><td>120</table>"
        "<table><tr><td><p>The slip is closed.</p><td><p>Until May.</p></table>"
    )
    (text,) = [each.text for each in documents("fees.html", table.encode())]
    assert text.startswith("| Boat | Winter | Summer |\n| Dinghy |  | 40 |\n| Yacht | 90 | 120 |\n")
    assert "|" not in text.partition("The slip")[2]
    found, _ = asked(tmp_path, "fees.html", table, "What is the winter fee of a yacht?")
    assert readable(found[0].quote) == "Boat, Winter, Summer; Dinghy, -, 40; Yacht, 90, 120."


@pytest.mark.parametrize(
    ("text", "question", "answered"),
    [
        ("Der Steg im Hafen ist 64 m lang.", "Wie hoch ist die Gebühr im Hafen?", False),
        ("Gebühr im Hafen: 31 Euro", "Wie hoch ist die Gebühr im Hafen?", True),
        ("Έχει μήκος 64 μέτρα η αποβάθρα.", "Ποιο είναι το μήκος της αποβάθρας;", True),
        ("Le quai mesure 64 mètres.", "Qui est le maire de Nantes ?", False),
        ("Le quai mesure 64 mètres.", "Combien de mètres mesure le quai ?", True),
        ("Длина причала 64 метра.", "Какова же длина причала?", True),
    ],
)
def test_the_function_words_of_any_language_need_not_be_found(
    text: str, question: str, answered: bool, tmp_path: Path
) -> None:
    found, _ = asked(tmp_path, "quay.md", f"# x\n\n{text}\n", question)
    assert bool(found) is answered


def test_signs_that_are_no_boxes_stay_text() -> None:
    for text in ("The call f (x) gives a [x] list.", "\u25cf One thing\n\u25cf another thing"):
        assert options(text) == []
