"""A folder as people keep one, asked as people ask: python -m benchmarks.folder.

Tables, forms, notes, a settings file, pages and PDFs, all invented and written here, and questions
that were written before the reading of them was mended. Indexing, search, extraction and
confidence are the product's. *Right*: the first quote holds the answer; *sure*: its confidence
passes the gate.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nemoflows.engines.builtin import extract
from nemoflows.engines.builtin.confidence import SURE, confidence
from nemoflows.search import SearchIndex, build_index, open_index

K = 8
"""Passages per search, as in the library's defaults."""

FILES: dict[str, str | bytes] = {
    "people/staff.csv": """sep=;
Name;Role;Office;Salary;Starts
Mara Voss;Head of sales;Lyon;81,200;2019-03-01
Ilja Brandt;Electrician;Graz;44,750;2021-09-15
Pia Lund;Bookkeeper;Graz;52,300;2016-01-04
Tom Okafor;Driver;Lyon;39,900;2023-05-02
Nadia Sorel;Plumber;Bruges;46,100;2020-11-23
""",
    "people/badge-form.txt": """BADGE REQUEST

Applicant: Tom Okafor
Department: Logistics
Badge number: 40-7719
Valid until: 31 December 2027
Access level: B (yard and hall 2)
Emergency contact: Ruth Okafor, 0555 0134
Signed: M. Voss
""",
    "stock/parts.csv": """part,bin,on hand,supplier,unit price
Hex bolt M8,C4,880,Ferrox,0.12
Ball valve 1/2",A7,16,Aquaro,11.40
Hinge, large,B2,42,Ferrox,3.75
Pump P-310/A,D1,3,Aquaro,418.00
Pump P-310/B,D2,5,Aquaro,455.00
Gasket 40 mm,A9,230,Selmar,0.85
""",
    "stock/tools.jsonl": "\n".join(
        json.dumps(row)
        for row in (
            {"name": "Torque wrench", "weight_kg": 2.4, "last_calibrated": "2026-02-11"},
            {"name": "Cable finder", "weight_kg": 0.6, "last_calibrated": "2025-10-30"},
            {"name": "Core drill", "weight_kg": 14.8, "last_calibrated": "2026-05-19"},
        )
    ),
    "office/invoice-2291.md": """# Invoice 2291

**Customer:** Harbour Bakery
**Date:** 14 May 2026
**Due:** 13 June 2026

| Item | Quantity | Price | Sum |
|---|---|---|---|
| Oven door seal | 2 | 38.00 | 76.00 |
| Service visit | 1 | 120.00 | 120.00 |

**Total:** 196.00 EUR
**IBAN:** XX12 0000 4477 1020
""",
    "office/settings.yaml": """server:
  host: mill.example
  port: 8443
  timeout_s: 45
backup:
  schedule: every night at 02:30
  keep_days: 21
  target: nas2:/vault
mail:
  sender: noreply@mill.example
""",
    "office/van.txt": """Van log

Plate: LY-204-QM
Next inspection: October 2026
Tyre pressure: 3.4 bar front, 3.9 bar rear
Fuel card PIN holder: Pia Lund

12 March. Oil changed at 88,140 km. The left mirror was replaced.
2 April. A new battery was fitted by Garage Noll for 164 euros.
""",
    "notes/meeting-2026-04-07.md": """# Site meeting, 7 April

Present: Mara, Ilja, Pia. Excused: Tom.

- The crane comes on 21 April and stays for nine days.
- Ilja orders the cable ladder; the supplier is Kestrel.
- We decided to move the break room to the second floor because the cellar floods every autumn.
- The fire drill takes place twice a year.

Open: who pays for the scaffold?
""",
    "notes/coffee-machine.md": """# Cleaning the coffee machine

1. Switch the machine off and let it cool for 20 minutes.
2. Empty the drip tray.
3. Fill the tank with one litre of water and one sachet of descaler.
4. Press both buttons for five seconds.
5. Rinse twice with clear water.

The filter is changed every eight weeks.
""",
    "notes/cheatsheet.md": """# Cheat sheet

Use `mill build --no-cache` to build without the cache.

Use `mill build --cache` to build with it.

Version 2.10 needs Python 3.12. Version 2.1 needs Python 3.9.

The driver is written in C++. The plugin is written in C#. The loader is written in C.

Include `#include <mill/core.h>` in the first line of each file.
""",
    "notes/neighbours.txt": """Die Müllabfuhr kommt jeden Donnerstag.
Der Schlüssel zum Tor liegt bei Frau Öztürk im Erdgeschoss.
Das Café gegenüber öffnet um sieben Uhr.
""".encode("cp1252"),
    "site/hours.html": """<html><head><title>Opening hours</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/w">Warranty terms</a></li>
<li><a href="/d">Delivery areas</a></li></ul></nav><main><h1>Opening hours</h1>
<table><tr><th>Day</th><th>Shop</th><th>Workshop</th></tr>
<tr><td>Monday</td><td>9 to 18</td><td>closed</td></tr>
<tr><td>Saturday</td><td>10 to 14</td><td>8 to 12</td></tr></table>
<p>The shop is closed in the last week of August.</p></main>
<footer>Warranty terms. Delivery areas. Cookies.</footer></body></html>""",
    "site/returns.html": """<html><head><title>Returns</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/w">Warranty terms</a></li>
<li><a href="/d">Delivery areas</a></li></ul></nav><main><h1>Returns</h1>
<p>Unused parts can be sent back within 30 days. The refund takes five work&shy;ing days.</p>
<h2>Guarantee</h2><p>Pumps carry a guarantee of 36 months.</p></main>
<footer>Warranty terms. Delivery areas. Cookies.</footer></body></html>""",
}

PDFS = {
    "manuals/pump.pdf": [
        [
            (72, 740, 18, "Pump P-310 manual"),
            (72, 710, 11, "The bearings are greased with a lithium com-"),
            (72, 696, 11, "pound every 400 hours. Run the pump dry for at"),
            (72, 682, 11, "most 10 seconds."),
            (330, 710, 11, "The motor draws 2.2 kW. Its noise level is"),
            (330, 696, 11, "71 decibels at one metre. Do not install the"),
            (330, 682, 11, "pump where the tempera-"),
            (330, 668, 11, "ture exceeds 45 degrees."),
        ],
        [
            (72, 740, 14, "Technical data"),
            (72, 710, 11, "Maximum head"),
            (300, 710, 11, "32 m"),
            (72, 694, 11, "Weight"),
            (300, 694, 11, "27.5 kg"),
            (72, 678, 11, "Thread"),
            (300, 678, 11, "G 1 1/4"),
        ],
    ],
    "manuals/lease.pdf": [
        [
            (72, 740, 16, "Lease of hall 2"),
            (
                72,
                712,
                11,
                "The rent is 2,850 euros a month and is payable by the third working day.",
            ),
            (72, 698, 11, "The notice period is six months to the end of a quarter."),
            (72, 670, 13, "Deposit"),
            (72, 652, 11, "The tenant has paid a deposit of 8,550 euros."),
        ]
    ],
}
"""Per page its lines: place, size, text."""

QUESTIONS = (
    ("What is the salary of Ilja Brandt?", "44,750"),
    ("Which office does Nadia Sorel work in?", "Bruges"),
    ("When did Pia Lund start?", "2016-01-04"),
    ("Who is the head of sales?", "Mara Voss"),
    ("What is Tom Okafor's badge number?", "40-7719"),
    ("How long is the badge valid?", "31 December 2027"),
    ("Who is Tom's emergency contact?", "Ruth Okafor"),
    ("What access level does the badge have?", "B (yard"),
    ("In which bin is the ball valve?", "A7"),
    ("How much is a gasket?", "0.85"),
    ("Where is pump P-310/B kept?", "D2"),
    ("What does pump P-310/A cost?", "418.00"),
    ("How many hex bolts do we have on hand?", "880"),
    ("How heavy is the core drill?", "14.8"),
    ("When was the torque wrench last calibrated?", "2026-02-11"),
    ("What is the total of invoice 2291?", "196.00 EUR"),
    ("When is the invoice to Harbour Bakery due?", "13 June 2026"),
    ("How much did the service visit cost?", "120.00"),
    ("What port does the server use?", "8443"),
    ("When does the backup run?", "02:30"),
    ("How long are backups kept?", "21"),
    ("What is the tyre pressure of the van?", "3.4 bar"),
    ("Who replaced the battery of the van?", "Garage Noll"),
    ("When is the van's next inspection?", "October 2026"),
    ("How long does the crane stay?", "nine days"),
    ("Why do we move the break room?", "floods"),
    ("How often is the fire drill?", "twice a year"),
    ("How often is the filter of the coffee machine changed?", "eight weeks"),
    ("How long must the coffee machine cool?", "20 minutes"),
    ("How do I build without the cache?", "--no-cache"),
    ("What does version 2.1 need?", "Python 3.9"),
    ("What does version 2.10 need?", "Python 3.12"),
    ("Which part is written in C#?", "The plugin"),
    ("Which header do I include?", "<mill/core.h>"),
    ("Wann kommt die Müllabfuhr?", "Donnerstag"),
    ("Wo liegt der Schlüssel zum Tor?", "Öztürk"),
    ("When is the workshop open on Saturday?", "8 to 12"),
    ("How long does a refund take?", "five work"),
    ("How long is the guarantee on pumps?", "36 months"),
    ("What are the bearings greased with?", "lithium"),
    ("How loud is the pump?", "71 decibels"),
    ("How heavy is the pump?", "27.5 kg"),
    ("How much is the rent of hall 2?", "2,850"),
    ("What is the notice period?", "six months"),
    ("How high is the deposit?", "8,550"),
    ("What is the salary of the night watchman?", ""),
    ("How deep is the swimming pool?", ""),
    ("What are the warranty terms?", ""),
    ("Who is the mayor of Lyon?", ""),
    ("How long is the lunch break?", ""),
)
"""Question and what its answer holds; an empty one is answered nowhere."""


def write(folder: Path) -> None:
    """Write the files."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, pages in PDFS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pdf(pages))


def pdf(pages: Sequence[Sequence[tuple[int, int, int, str]]]) -> bytes:
    """Return a PDF of pages of lines, each with its place, size and text."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}/MediaBox[0 0 612 792]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, lines in enumerate(pages):
        shown = "\n".join(
            f"BT /F1 {size} Tf {x} {y} Td ({text.translate(_ESCAPED)}) Tj ET"
            for x, y, size, text in lines
        )
        use = f"/Contents {5 + 2 * number} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R{use}>>")
        objects.append(f"<</Length {len(shown)}>>stream\n{shown}\nendstream")
    out, offsets = b"%PDF-1.4\n", []
    for number, told in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{told}\nendobj\n".encode("latin-1")
    rows = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}"
    tail = f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF"
    return out + (table + tail).encode()


_ESCAPED = str.maketrans({"(": r"\(", ")": r"\)", "\\": r"\\"})


def asked(index: SearchIndex) -> Iterator[tuple[str, str, str, str, float]]:
    """Yield each question, its answer, what came of it, the first quote and its confidence."""
    for question, wanted in QUESTIONS:
        passages = index.search(question, K)
        found = extract(question, passages)
        sure = confidence(question, found, passages)
        quote = found[0].quote if found else ""
        right = bool(wanted) and wanted in quote.replace("\xad", "")
        outcome = "right" if right else "none" if not found else "wrong"
        yield question, wanted, "right" if not wanted and not found else outcome, quote, sure


def main() -> None:
    """Print each question that is not right, then the shares."""
    with tempfile.TemporaryDirectory() as work:
        write(Path(work, "folder"))
        built = build_index(f"{work}/folder", f"{work}/root")
        print(json.dumps({"skipped": [f"{s.document}: {s.reason}" for s in built.skipped]}))
        rows = list(asked(open_index(built)))
    for question, wanted, outcome, quote, sure in rows:
        if outcome != "right":
            print(json.dumps([outcome, round(sure, 2), question, wanted, quote[:120]]))
    tellable = [row for row in rows if row[1]]
    shares = {
        "right, answerable": sum(row[2] == "right" for row in tellable) / len(tellable),
        "right, unanswerable": sum(row[2] == "right" for row in rows if not row[1])
        / (len(rows) - len(tellable)),
        "wrong and sure": sum(row[2] == "wrong" and row[4] >= SURE for row in rows) / len(rows),
    }
    print(json.dumps({name: round(share, 3) for name, share in shares.items()} | {"n": len(rows)}))


if __name__ == "__main__":
    main()
