"""Names that signs tell apart, scripts without spaces, and how-questions, asked of real indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemoflows.engines.builtin import extract
from nemoflows.language.terms import names, terms, words
from nemoflows.search import build_index, open_index


def ask(folder: Path, question: str, **files: str) -> list[str]:
    """Return what is quoted, best first, from files named by keyword."""
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for name, text in files.items():
        (corpus / f"{name}.md").write_text(text, "utf-8")
    index = open_index(build_index(str(corpus), str(folder / "root")))
    return [piece.quote for piece in extract(question, index.search(question, 8))]


@pytest.mark.parametrize(
    ("question", "best", "other"),
    [
        ("What does release 3.12 bring?", "Release 3.12 brings maps.", "Release 12.3 brings sound."),
        ("What broke in v4.0-rc2?", "In 4.0-rc2 the login broke.", "In 4.0-rc1 the menu broke."),
        ("Who teaches F#?", "Mira Dorn teaches F#.", "Olaf Stern teaches F."),
        ("Who teaches F?", "Olaf Stern teaches F.", "Mira Dorn teaches F#."),
        ("Who maintains the C++ code?", "Ines Falk maintains the C++ code.", "Bo Lind maintains the C code."),
        ("What is ZX-44/B made of?", "ZX-44/B is made of brass.", "ZX-44/A is made of steel."),
        ("What does --dry-run do?", "The flag --dry-run prints only.", "The flag --run does it all."),
        ("What does -V print?", "The flag -V prints the version.", "The flag -v prints more."),
        ("Who gives the .NET course?", "Ute Krone gives the .NET course.", "Leo Bach gives the net course."),
        ("Who teaches C++?", "C++ is taught by Bo Lind.", "C is taught by Ann Ek."),
        ("What must not stand in the hall?", "Bicycles must not stand in the hall.", "Prams may stand in the hall."),
        ("What may stand in the hall?", "Prams may stand in the hall.", "Bicycles must not stand in the hall."),
        ("¿Cuánto mide la presa?", "La presa mide 84 metros.", "El guarda mide el agua."),
        ("谁是北门车站的站长？", "站长是林文。", "北门车站建于1931年。"),
        ("How old is the tower?", "The tower was built in 1931.", "The tower has 412 steps."),
        ("How wide is the tower?", "The tower has a width of 9 m.", "The tower is 88 m tall."),
        ("Who lies in ward A?", "In ward A lies Mr Hall.", "In ward B lies Ms Pohl."),
        ("Which donors can give to group A-?", "Group A- takes from O- and A-.", "Group A+ takes from O+."),
    ],
)  # fmt: skip
def test_the_sentence_with_the_very_name_comes_first(
    tmp_path: Path, question: str, best: str, other: str
) -> None:
    assert ask(tmp_path, question, a=f"{other}\n\n{best}\n", b="The park has a pond.")[0] == best


def test_another_version_is_no_answer_where_the_one_asked_for_is_not_there(tmp_path: Path) -> None:
    assert ask(tmp_path, "What does release 7.20 bring?", a="Release 20.7 brings maps.") == []


@pytest.mark.parametrize("spelling", ["QR-90/C", "QR 90 C", "qr-90-c"])
def test_other_spellings_of_a_part_number_are_found(tmp_path: Path, spelling: str) -> None:
    text = "The QR-90/C costs 12 euros.\n\nThe QR-90/D costs 15 euros."
    assert ask(tmp_path, f"What does {spelling} cost?", a=text)[0].startswith("The QR-90/C")


def test_a_place_that_nobody_wrote_of_is_not_answered_by_its_building(tmp_path: Path) -> None:
    text = "北门车站建于1931年，站台长220米。售票处在二楼。"
    assert ask(tmp_path, "北门车站的厕所在哪里？", a=text) == []
    assert ask(tmp_path, "售票处在几楼？", a=text)[0] == "售票处在二楼。"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("切符は900円です。", "切符はいくらですか？"),
        ("学生共有820人。", "学生有多少人？"),
    ],
)
def test_what_asks_for_an_amount_need_not_be_found(
    text: str, question: str, tmp_path: Path
) -> None:
    assert ask(tmp_path, question, a=f"# 港\n\n南港。\n\n{text}") == [text]


def test_dates_are_found_in_other_spellings_too(tmp_path: Path) -> None:
    text = "On 3 May 2024 the lift was repaired.\n\nOn 5 March 2024 the roof was repaired."
    assert ask(tmp_path, "What was repaired on 3 May 2024?", a=text)[0].startswith("On 3 May")


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("东港灯塔有多高？", "# 灯塔\n东港灯塔高42米。塔内有一百六十级台阶。夏季每天开放。", "42"),
        ("山本橋は何年に開通しましたか？", "# 橋\n山本橋は1938年に開通しました。長さは310メートルです。", "1938"),
        ("박물관은 언제 문을 엽니까?", "# 박물관\n박물관은 오전 9시에 문을 연다. 입장료는 7천 원이다.", "9"),
        ("หอคอยสูงกี่เมตร", "# หอคอย\nหอคอยสูง 61 เมตร สร้างเสร็จในปี 2530 เปิดทุกวัน", "61"),
        ("ຂົວຍາວເທົ່າໃດ", "ຂົວຍາວ 740 ແມັດ ສ້າງໃນປີ 1994", "740"),
        ("ស្ពានវែងប៉ុន្មាន", "ស្ពានវែង 520 ម៉ែត្រ", "520"),
        ("متى بُنيت القلعة؟", "بنيت القلعة عام 1742. لها ستة أبراج.", "1742"),
        ("पुल कब बना?", "पुल 1968 में बना।", "1968"),
        ("Когда построен маяк?", "Маяк построен в 1899 году. Он белый.", "1899"),
        ("Πότε χτίστηκε ο φάρος;", "Ο φάρος χτίστηκε το 1870. Είναι λευκός.", "1870"),
        ("Cầu dài bao nhiêu mét?", "Cầu dài 415 mét. Nó mở cửa cả ngày.", "415"),
    ],
)  # fmt: skip
def test_scripts_of_all_kinds_are_answered(
    tmp_path: Path, question: str, text: str, answer: str
) -> None:
    assert answer in ask(tmp_path, question, a=text, b="# Garden\n\nA pond.")[0]


def test_marks_that_make_another_letter_stay_and_accents_fold() -> None:
    assert words("йод")[0] != words("иод")[0]
    assert words("かみ") != words("がみ")
    assert words("ติ") != words("ตี")
    assert words("café naïve Ąж ёлка ἄνθρωπος") == ["cafe", "naive", "aж", "елка", "ανθρωποσ"]


def test_what_nobody_sees_parts_no_word() -> None:
    seen = "Haus\u00adtür zero\u200bwidth \ufeffmark o\ufb03ce"
    assert words(seen) == ["haustur", "zerowidth", "mark", "office"]


def test_a_word_that_a_line_breaks_is_whole_and_a_hyphen_s_halves_are_there() -> None:
    assert "lubric" in terms("it is lubri-\n  cated well")
    assert {"long", "term"} <= set(terms("a long-\nterm plan"))
    assert words("Do-\nMi") == ["do", "mi"]


def test_a_name_may_be_as_long_as_a_megabyte() -> None:
    assert names("1." * 500_000) == []
    assert names("a" * 1_000_000 + "-1") == []


HOW = [
    ("How long does the tour take?", "The tour takes 90 minutes."),
    ("How long is the apprenticeship usually?", "The apprenticeship lasts three years."),
    ("How long can I park here?", "You can park for two hours."),
    ("How long are records kept?", "Records are kept until the end of the year."),
    ("How often is the lift inspected?", "The lift is inspected every six months."),
    ("How often does the choir meet?", "The choir meets on Thursdays, weekly."),
    ("How far is the school from the station?", "The school lies 800 metres from the station."),
    ("How old is the mill?", "The mill was built in 1654."),
    ("How heavy is the anvil?", "The anvil weighs 75 kg."),
    ("How deep is the harbour exactly?", "The harbour is 14 metres deep."),
    ("How wide is the gate?", "The gate measures 3.2 m."),
    ("How fast is the ferry?", "The ferry makes 18 knots."),
    ("How high is the membership fee?", "The membership fee is 40 euros."),
    ("How big is the hall?", "The hall seats 300 people."),
    ("How loud is the fan?", "The fan reaches 52 decibels."),
    ("How hot is the kiln?", "The kiln reaches 1,200 degrees."),
    ("How much is a locker?", "A locker costs 2 euros."),
    ("How many bells are there in the tower?", "There are four bells in the tower."),
    ("What is the current deposit?", "The deposit is 50 euros."),
    ("When does the pool normally open?", "The pool opens at 7:30."),
]


@pytest.mark.parametrize("name", ["a", "rules"])
@pytest.mark.parametrize(("question", "fact"), HOW)
def test_the_word_after_how_names_the_answer_s_kind(
    tmp_path: Path, question: str, fact: str, name: str
) -> None:
    files = {name: f"# Facts\n\n{fact}\n", "garden": "# Garden\n\nNine apple trees and a pond."}
    assert ask(tmp_path, question, **files)[:1] == [fact]


@pytest.mark.parametrize(
    "question",
    [
        "How long is the swimming pool?",
        "How old is the conductor?",
        "How often does the mill run?",
        "How heavy is the tour bus?",
        "How deep is the mill pond?",
        "How long does the ferry crossing take?",
        "What is the salary of the conductor?",
        "How far is the airport?",
        "What does release 9.1 bring?",
        "Who painted the town hall?",
        "How wide is the swimming pool?",
    ],
)
def test_what_nobody_wrote_stays_unanswered(tmp_path: Path, question: str) -> None:
    facts = "\n\n".join(fact for _, fact in HOW)
    assert ask(tmp_path, question, a=f"# Facts\n\n{facts}\n") == []
