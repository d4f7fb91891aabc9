"""Sentences with exact offsets.

Blocks first (prose, heading, bullet, table, code, markup, record), so that code is never torn and a
heading never runs into the text below it; then sentences within prose and bullets. A record is a
form's or a table row's lines "key: value", which say little one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nemoflows.language.boxes import BOX, cut, options
from nemoflows.language.terms import STOP_WORDS

Kind = Literal["prose", "heading", "bullet", "code", "table", "markup", "record"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A stretch `text[start:end]` that reads as one statement, or one whole block."""

    start: int
    end: int
    text: str
    kind: Kind = "prose"
    block: int = 0
    """Number of the paragraph, list item or code block that it lies in."""


MAX_FIELD_CHARACTERS = 300
"""Up to here a field is one statement: its later sentences do not name what they speak of."""

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_QUOTES = re.compile(r"[rRbBfFuU]{0,2}(?:\"\"\"|\'\'\')")
_UNDERLINE = re.compile(r"\s*([=\-~^\"*#+_])\1{2,}\s*$")
_ENTRY = re.compile(r"\s*\*{0,2}[a-z_]\w*(?:, \*{0,2}\w+)* ?: \S")
"""An argument's entry, where the next line is indented below it."""
_FIELD = re.compile(r"[A-Za-z][\w -]{0,30}:\s+\S")
_STATEMENT = re.compile(
    r"\s*(?:"
    r"(?:from [\w.]+ )?import [\w{*(]|(?:async )?def \w+\(|class \w+[(:]|"
    r"return(?: (?:not |await )?[\w.(\[{'\"-]\S*(?:\(.*)?)?$|raise \w+|@\w[\w.]*(?:\(|$)|"
    r"(?:if|elif|for|while|with|try|except|else)\b.*:$|[)\]}]+[,:;]?$|"
    r"[\w.\[\]\"']+(?:: [\w\[\]., |]+)? = \S|[\w.]+\([^)]*(?:\)?[,;:]?)$|"
    r"[rbfu]?[\"'][^\"'\n]*[\"'](?:: ?[\[{(\"'\w]|,$)|(?:if|elif|while|return|assert|not) ?\(|"
    r"\*{0,2}\w+=[^ =].*,$|(?:\$|pip|uv|npm|cd) \S+)"
)
"""A line that reads as code wherever it stands."""
_LOOKS = {
    "bullet": re.compile(
        r"\s*(?:[-*+•]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S|"
        # An entry of a log or a chat: its time, and who.
        r"\[(?:[\d./-]+,? )?\d\d?:\d\d[^\]\n]{0,12}\]\s+\S|"
        r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d\S*\s+\S|"
        # A web server's: who, and its time.
        r"\S+ \S+ \S+ \[\d\d?/[A-Z][a-z]{2}/\d{4}:|"
        r"(?:\d\d?[./]\d\d?[./]\d\d(?:\d\d)?,? )?\d\d?:\d\d(?::\d\d)?\s+"
        r"(?:- )?[^\W\d][^:\n]{0,30}:\s"
    ),
    "table": re.compile(r"\s*\|.*\||\s*[+|][-=+|:\s]{3,}$"),
    "underline": _UNDERLINE,
    # A title's marks, or one or two words and a colon, alone on a line.
    "heading": re.compile(r"\s{0,3}#{1,6}\s+\S|\s*[A-Z]\w+(?: [a-z]\w+)?::?\s*$"),
    # An argument's entry in a docstring.
    "field": re.compile(r"\s+\*{0,2}[a-z_]\w*(?: ?\([^()\n]{1,60}\))?:\s+[A-Z`\"'<\[\d]"),
    "prose": re.compile(rf"\s*{_QUOTES.pattern}"),
}
"""Lines that are of a kind by their own looks; the first that holds counts."""
_KEYED = re.compile(
    r"(?![ \t]*[\"'].*,$)[ \t]*(?:[-*+\u2022] +)?(?:\*\*|__)?[\"']?[^\W_][^\n:*=|`{}\[\];?!]{0,48}?"
    r"[\"']?(?:\*\*|__)? ?[:\uff1a](?:\*\*|__)?(?P<value>[ \t]+\S.*|[ \t]*$)"
)
"""A line "key: value", or a key above indented ones."""
_LEADER = re.compile(
    r"[ \t]*[^\W_][^\n:|=]{0,48}?[ \t]*(?:\.{4,}|_{3,}|…{2,}|(?: \.){4,})[ \t]*(?P<value>\S.*|$)"
)
"""A form's line whose field and value dots or a rule join."""
_PAGE = re.compile(r"\d{1,4}\s*$")
"""What such a line leads to in a table of contents."""
_SECTION = re.compile(r"\[[^\W\d][\w.:\- \"'/@]*\]\s*$")
_SETTING = re.compile(r"(?:export )?[^\W\d][\w.\-]* ?= ?\S")
_UPPER = re.compile(r"(?:export )?[A-Z][A-Z\d_]{2,}=\S|[a-z][\w-]*(?:\.[\w-]+)+=[^\s=(]")
_COMMENT = re.compile(r"[#;]")
_ITEM = re.compile(r"[ \t]*[-*+\u2022] +\S|[ \t]+\S")
MAX_KEY_WORDS = 6
MAX_RECORD_CHARACTERS = 300
"""Up to here a record is quoted whole; a longer one by its top keys, or line by line."""

_INDENTED = re.compile(r"\s*(?:>>> |\.\.\. |\$ )|(?: {4}|\t)")
_MARKUP = re.compile(
    r"\s*(?:(?:<[/!a-zA-Z][^>]*>|\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\))?)\s*)+$|"
    r"\s*\.\. |\[[^^\]][^\]]*\]:\s"
)
_KINDS: dict[str, Kind] = {
    "prose": "prose", "more": "prose", "heading": "heading", "bullet": "bullet",
    "field": "bullet", "code": "code", "fence": "code", "table": "table", "markup": "markup",
    "record": "record", "record start": "record",
}  # fmt: skip
_RUNNING = {"prose", "bullet", "more", "field"}


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of `text` in order, with exact offsets.

    Code blocks, tables and headings come whole, as one "sentence" of their kind.
    """
    found: list[Sentence] = []
    boxes = options(text) if BOX.search(text) else []
    for number, (start, end, kind) in enumerate(_blocks(text)):
        whole = kind == "field" and end - start <= MAX_FIELD_CHARACTERS
        said = _KINDS[kind]
        split = said in {"prose", "bullet"} and not whole
        spans = _split(text, start, end) if split else [(start, end)]
        parts = [(a, b, said) for a, b in spans if a < b]
        if boxes and said not in {"code", "table", "markup"}:
            cuts = (each for a, b, _ in parts for each in cut(text, a, b, boxes))
            parts = [(a, b, _KINDS.get(kind, said)) for a, b, kind in cuts]
        found += [Sentence(a, b, text[a:b], each, number) for a, b, each in parts]
    return found


def _blocks(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield stretches of lines of one kind, without white space or a docstring's quotes."""
    lines = _classified(text)
    place = 0
    while place < len(lines):
        start, end, kind = lines[place]
        place += 1
        while place < len(lines) and _continues(kind, lines[place - 1][2], lines[place][2]):
            end = lines[place][1]
            place += 1
        if kind == "blank":
            continue
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        opened = _QUOTES.match(text, start + lead) if kind != "fence" else None
        begin = opened.end() if opened else start + (lead if kind != "code" else 0)
        bare = text[begin:end].rstrip()
        quoted = bare.endswith(('"""', "'''"))
        yield begin, begin + len(bare[:-3].rstrip() if quoted else bare), kind


def _continues(kind: str, previous: str, line: str) -> bool:
    if kind in {"prose", "bullet", "field"}:
        return previous != "blank" and line in ({"prose", "more"} if kind != "field" else {"more"})
    if kind == "heading":
        return line == "underline" and previous == "heading"
    if kind == "record start":
        return line == "record"
    return kind == line and kind in {"code", "fence", "table", "markup"}


def _classified(text: str) -> list[tuple[int, int, str]]:
    """Return each line's start, end and class; whole fenced blocks are class "fence"."""
    raw = text.splitlines(keepends=True)
    lines: list[tuple[int, int, str]] = []
    offset = 0
    placed = list(_places(raw))
    records = _records(raw, [place for place, _ in placed])
    for number, (line, (place, indent)) in enumerate(zip(raw, placed, strict=True)):
        after = raw[number + 1] if number + 1 < len(raw) else ""
        before = ["blank", "blank", *(entry[2] for entry in lines[-2:])][-2:]
        bare = line[min(indent, _indent(line)) :]
        kind = "fence" if place.startswith("fence") else _line_kind(bare, after, before)
        kind = records.get(number, kind)
        hangs = after.strip() and _indent(after) > _indent(line)
        if hangs and kind in {"prose", "more", "code"} and _ENTRY.match(line):
            kind = "field"
        lines.append((offset, offset + len(line), kind))
        offset += len(line)
        if place.endswith("end"):
            lines.append((offset, offset, "blank"))
    return lines


def _records(raw: Sequence[str], places: Sequence[str]) -> dict[int, str]:
    """Return the lines that stand in records, and whether each begins one.

    A record is a stretch of lines without an empty one, of which at least two are "key: value".
    """
    found = _settings(raw, places)
    run: list[int] = []
    for number in range(len(raw) + 1):
        line = raw[number] if number < len(raw) and not places[number] else ""
        if _keyed(line) or (run and line.strip() and _ITEM.match(line)):
            run.append(number)
            continue
        keyed = [match for place in run if (match := _keyed(raw[place])) and match["value"].strip()]
        contents = all(match.re is _LEADER and _PAGE.match(match["value"]) for match in keyed)
        enough = len(keyed) >= 2 and 2 * len(keyed) >= len(run) and not contents
        if enough and _indent(raw[run[0]]) == 0:
            found |= _parted(raw, run)
        run = []
    return found


def _settings(raw: Sequence[str], places: Sequence[str]) -> dict[int, str]:
    """Return the lines of settings "key = value": a section's, with its name, or of a shell."""
    found: dict[int, str] = {}
    run: list[int] = []
    more = _UPPER
    for number in range(len(raw) + 1):
        line = raw[number] if number < len(raw) and not places[number] else ""
        if run and (more.match(line) or _COMMENT.match(line)):
            run.append(number)
            continue
        if len(run) >= 2:
            found |= dict.fromkeys(run, "record") | {run[0]: "record start"}
        more = _SETTING if _SECTION.match(line) else _UPPER
        run = [number] if more is _SETTING or _UPPER.match(line) else []
    return found


def _keyed(line: str) -> re.Match[str] | None:
    line = line.rstrip()
    match = _KEYED.match(line) or _LEADER.match(line)
    key = match.group()[: -len(match["value"]) or None] if match else ""
    named = [word for word in key.split() if any(map(str.isalnum, word))]
    return match if len(named) <= MAX_KEY_WORDS else None


def _parted(raw: Sequence[str], run: Sequence[int]) -> dict[int, str]:
    """Return the kinds of a record's lines: whole where it is short and flat, else by its keys."""
    flat = not any(_indent(raw[number]) for number in run)
    whole = flat and sum(len(raw[number]) for number in run) <= MAX_RECORD_CHARACTERS
    starts = {n for n in run if n == run[0] or (not whole and not _indent(raw[n]))}
    return {number: "record start" if number in starts else "record" for number in run}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _places(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield for each line where it stands, in a fence or a docstring, and the latter's indent."""
    fence, quotes, indent = _torn(lines), "", 0
    for line in lines:
        mark, bare = _FENCE.match(line), line.strip()
        if fence:
            closed = bool(mark) and bare.startswith(fence) and not bare.strip(fence[0])
            fence = "" if closed else fence
            yield "fence end" if closed else "fence", 0
        elif mark:
            fence = mark[1]
            yield "fence", 0
        else:
            opened = None if quotes else _QUOTES.match(bare)
            if opened:
                quotes, indent = opened.group()[-3:], _indent(line)
            closed = bool(quotes) and quotes in bare[opened.end() if opened else 0 :]
            yield ("end" if closed else ""), indent if quotes else 0
            quotes = "" if closed else quotes


def _torn(lines: Sequence[str]) -> str:
    """Return the fence that a passage cut out of a document begins within; "" for none."""
    fences = [line.strip() for line in lines if _FENCE.match(line)]
    bare = [mark.strip(mark[0]) == "" for mark in fences]
    return fences[0][:3] if len(fences) % 2 and bare[0] and bare[-1] else ""


def _line_kind(line: str, after: str, before: Sequence[str]) -> str:
    """Return a line's class by its looks, the line after it and the classes of the two before."""
    if not line.strip():
        return "blank"
    looks = next((kind for kind, pattern in _LOOKS.items() if pattern.match(line)), "")
    if looks == "underline":
        return "underline" if before[-1] == "heading" else "markup"
    if looks not in {"bullet", "table"} and _UNDERLINE.match(after) and before[-1] != "prose":
        return "heading"
    return looks or _placed(line, after, *before)


def _placed(line: str, after: str, earlier: str, previous: str) -> str:
    """Return the class of a line whose looks alone do not tell."""
    indented = line[0] in " \t"
    code = _INDENTED.match(line) and (previous not in _RUNNING or ">>> " in line)
    field = _FIELD.match(line) and (previous == "field" or _FIELD.match(after))
    tests = (
        ("more", indented and previous == "blank" and earlier in {"bullet", "more"}),
        ("code", code or _STATEMENT.match(line)),
        ("markup", _MARKUP.match(line)),
        ("field", field),
        ("heading", previous == "blank" and _titled(line, after)),
        ("more", indented),
    )
    return next((kind for kind, holds in tests if holds), "prose")


def _titled(line: str, after: str) -> bool:
    bare = line.strip()
    alone = bool(after) and not after.strip() and len(bare) <= 70
    return alone and bare[0].isupper() and bare[-1].isalnum()


_NEVER = """
dr mr mrs ms prof gen col lt sgt capt maj adm gov sen rep rev hon pres st mt ft messrs mme vs viz cf
eg ie e.g i.e ca approx fig figs eq eqs sec secs ch chap vol pp nos ed eds trans dept univ assn bros
al resp incl excl hrs
""".split()  # noqa: SIM905 - one abbreviation per line would be a page
"""A full stop after one of these never ends a sentence."""
_MAYBE = """
jr sr inc ltd co corp etc no u.s u.k u.n e.u d.c a.m p.m b.c a.d b.c.e c.e ph.d m.d b.a m.a jan feb
mar apr jun jul aug sep sept oct nov dec art sq
""".split()  # noqa: SIM905 - one abbreviation per line would be a page
"""After one of these, or an initial, only a word that likes to begin sentences begins one."""
_WIDE = "\u3002\uff01\uff1f"
"""Full stops of scripts that put no space after them."""
_STOP = re.compile(
    rf"""(?<![.!?\u2026])[.!?\u2026]++(?:["'\u201d\u2019)\]*_]+|\[\d+\])*(?=\s)|"""
    rf"""[{_WIDE}]+[\u300d\u300f\u201d]?"""
)
_SPACE = re.compile(r"\s*")
_TOKEN = re.compile(r"[^\s(\[\"\u201c]*$")
_INITIAL = re.compile(r"[^\W\d_]|(?:[a-z]\.)+[a-z]")
_NEXT = re.compile(r"[\s\"'\u201c\u2018(\[*_]*(\w*)")
_OPENERS = STOP_WORDS - {"i", "no"}


def _split(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the sentences' spans within one block."""
    spans, begin = [], start
    for stop in _STOP.finditer(text, start, end):
        if stop.end() < end and _ends(text, stop.start(), stop.end()):
            spans.append((begin, stop.end()))
            space = _SPACE.match(text, stop.end(), end)
            begin = space.end() if space else end
    return [*spans, (begin, end)]


def _ends(text: str, dot: int, after: int) -> bool:
    """Tell whether the mark at `dot` ends a sentence."""
    if text[dot] in _WIDE:
        return True
    following = _NEXT.match(text, after, after + 60)
    word = following[1] if following else ""
    if word[:1].islower() or text[dot] in "!?":
        return not word[:1].islower()
    token = _TOKEN.search(text, max(0, dot - 30), dot)
    before = token.group().lower() if token else ""
    numbered = before.isdigit() and len(before) <= 2
    if before in _NEVER or (
        numbered and text[text.rfind("\n", 0, dot) + 1 : dot].strip().isdigit()
    ):
        return False
    if _INITIAL.fullmatch(before) or before in _MAYBE:
        return word.lower() in _OPENERS
    return True
