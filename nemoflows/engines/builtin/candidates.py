"""What can be quoted of passages: sentences, lead-ins with what they announce, tables, code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from nemoflows.engines.builtin.prose import is_code, readable
from nemoflows.engines.builtin.weights import Bag
from nemoflows.language.boxes import BOX, WORDS, options
from nemoflows.language.sentences import Kind, Sentence, sentences
from nemoflows.language.terms import words
from nemoflows.language.titles import subjects
from nemoflows.types import Passage

MAX_CODE_CHARACTERS = 1200
MAX_JOINED_CHARACTERS = 600
"""Of a lead-in with the code or list that it announces, and of a table."""
MIN_RUN_CHARACTERS = 4
"""Of two words, in a script without spaces, that make a sentence."""
LETTERS = 0.6
"""Least share of letters and digits in a sentence."""

MANY_PAGES = 3
"""Web pages on which a line at the edge is the site's.

Source: chosen by reading, not calibrated.
"""
_PAGE = re.compile(r"\.(?:x?html?|php|aspx?|jsp|md|mdx|markdown|rst|adoc|txt)$", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s)>\]]+")
PAIR = re.compile(r"[^\W_][^\n:]{0,40}: \S[^\n]*$")
"""One line "key: value", which needs no third word."""
_LOGGED = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_NOTE = re.compile(r"\[\^[^\]\n]+\](?=:)")
"""What begins a footnote of Markdown."""
_LISTED = re.compile(r"\s*(?:[-*+\u2022]|\(?\d{1,3}[.)])\s+\S")
_ORDERED = re.compile(r"(?:first|second|third|then|next|after|finally|last|step)\b", re.IGNORECASE)
_RULE = re.compile(r"[.…]{4,}|_{3,}|(?: \.){4,}")
"""Dots or a line that join a form's field and its value."""
_ROW = re.compile(r"\|.*\w.*\|")
_STRUCK = re.compile(r"(?:[-*+] )?~~[^~]+~~[.,;]?")
"""What is struck out holds no more."""
_AROUND_MAIL = re.compile(r"^(?:>|From: [^\n]*\n|(?:To|Cc|Date|Subject): )", re.MULTILINE)
_STUB = re.compile(r"@[\w.]*overload\b|\.\.\.$|^(?:if|elif) (?:typing\.|t\.)?TYPE_CHECKING")
"""Code for a type checker: it does nothing."""


Step = Literal["", "item", "list"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stretch that may be quoted, and what surrounds it."""

    sentence: Sentence
    passage: Passage
    rank: int
    bag: Bag
    before: Bag
    around: Bag
    """Terms of its section with the headings above it and the names in its document's path."""
    opens: bool = False
    """Whether it is the first sentence of its document."""
    torn: bool = False
    """Whether the passage begins or ends within it."""
    step: Step = ""
    """What a question for a procedure is after: an item of a list, or the whole list."""
    furniture: bool = False
    """Whether it is the site's: a footer, a notice on cookies."""
    around_mail: bool = False
    """Whether it is a mail's head, or what the mail quotes of another one."""
    ticked: bool | None = None
    """Of a box, and what stands beside it."""


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """Return what can be quoted; passages of one section stand as one, at the best one's rank."""
    sections: dict[tuple[str, str], list[Passage]] = {}
    for passage in passages:
        sections.setdefault((passage.document, passage.heading), []).append(passage)
    ranked = enumerate(sections.values())
    furniture = _furniture(passages)
    found = [each for rank, section in ranked for each in _of_section(section, rank, furniture)]
    return (
        [
            replace(each, furniture=_is_any(each, furniture.get(each.passage.id, [])))
            for each in found
        ]
        if furniture
        else found
    )


def _furniture(passages: Sequence[Passage]) -> dict[str, list[Sentence]]:
    """Return what stands alike at the edge of many web pages: a site's words, not a page's."""
    pages = [each for each in passages if _PAGE.search(each.document)]
    read = {each.id: sentences(each.text) for each in pages}
    seen: dict[str, set[str]] = {}
    for each in pages:
        for sentence in read[each.id]:
            seen.setdefault(_alike(sentence), set()).update(_names(each))
    shared = {text for text, names in seen.items() if len(names) >= MANY_PAGES}
    return {key: _at_edges(found, shared) for key, found in read.items()} if shared else {}


def _names(page: Passage) -> set[str]:
    """Return what tells the pages apart that hold a text: copies of one page are one."""
    names = (place.rpartition(":")[0] for place in page.also)
    title = page.heading.partition(" > ")[0]
    return {f"{title}/{name.rpartition('/')[2]}" for name in (page.document, *names)}


def _at_edges(found: Sequence[Sentence], shared: Collection[str]) -> list[Sentence]:
    is_shared = [_alike(each) in shared for each in found]
    first = next((n for n, known in enumerate(is_shared) if not known), len(found))
    behind = next((n for n, known in enumerate(is_shared[::-1]) if not known), 0)
    return [*found[:first], *found[len(found) - behind :]]


def _alike(sentence: Sentence) -> str:
    return " ".join(words(sentence.text))


def _is_any(candidate: Candidate, furniture: Sequence[Sentence]) -> bool:
    sentence = candidate.sentence
    return any(sentence.start < each.end and each.start < sentence.end for each in furniture)


def _own(passage: Passage, furniture: Sequence[Sentence]) -> str:
    """Return the text of a passage without what is the site's."""
    text = passage.text
    for each in furniture:
        text = text.replace(each.text, " ", 1)
    return text


def _of_section(
    section: Sequence[Passage], rank: int, furniture: Mapping[str, Sequence[Sentence]]
) -> Iterator[Candidate]:
    path = " ".join(term for name in subjects(section[0].document) for term in sorted(name))
    texts = (_own(part, furniture.get(part.id, ())) for part in section)
    held = (*texts, section[0].heading, path)
    around, before = Bag(*held), Bag()
    for passage in sorted(section, key=lambda passage: passage.start):
        found = [_unmarked(each) for each in sentences(passage.text)]
        opening = next((each for each in found if each.kind == "prose"), None)
        boxes = (
            {box.start: box for box in options(passage.text)} if BOX.search(passage.text) else {}
        )
        boxed = Bag(*held, WORDS) if boxes else around
        for place, sentence in enumerate(found):
            bag = Bag(_ADDRESS.sub(" ", sentence.text))
            if box := boxes.get(sentence.start):
                bag, label = Bag(box.about, sentence.text, WORDS), Bag(box.about)
                yield Candidate(sentence, passage, rank, bag, label, boxed, ticked=box.ticked)
            elif _states(sentence) and bag.terms:
                opens = passage.start == 0 and sentence == opening
                torn = _torn(passage, sentence, place, len(found))
                quoted = _with_announced(passage.text, found, place)
                step = sentence.kind == "bullet" or _ORDERED.match(sentence.text)
                kind: Step = "item" if step else ""
                led = Bag() if sentence.kind == "record" else before
                if note := _NOTE.match(sentence.text):
                    led = Bag(*(s.text for s in found if note.group() in s.text and s != sentence))
                mail = passage.document.endswith(".eml") and _AROUND_MAIL.search(quoted.text)
                made = Candidate(quoted, passage, rank, bag, led, around, opens, torn, kind)
                yield replace(made, around_mail=True) if mail else made
            before = bag
        for whole in (*_lists(passage.text, found), *_rows(passage.text, found)):
            kind = "list" if whole.kind == "bullet" else ""
            yield Candidate(whole, passage, rank, Bag(whole.text), Bag(), around, step=kind)


def _unmarked(sentence: Sentence) -> Sentence:
    """Return a heading without the marks of Markdown and what underlines it; others as they are."""
    if sentence.kind != "heading":
        return sentence
    bare = sentence.text.lstrip("#").lstrip()
    start, text = sentence.end - len(bare), bare.partition("\n")[0]
    return replace(sentence, start=start, end=start + len(text), text=text)


def _lists(text: str, found: Sequence[Sentence]) -> Iterator[Sentence]:
    """Yield whole lists that are short enough to be quoted."""
    for is_list, group in groupby(found, lambda each: _LISTED.match(each.text) is not None):
        items = list(group)
        start, end = items[0].start, items[-1].end
        if is_list and len(items) > 1 and end - start <= MAX_JOINED_CHARACTERS:
            yield Sentence(start, end, text[start:end], "bullet", items[0].block)


def _rows(text: str, found: Sequence[Sentence]) -> Iterator[Sentence]:
    """Yield the rows of tables that are too long to be quoted whole."""
    for table in found:
        if table.kind == "table" and len(table.text) > MAX_JOINED_CHARACTERS:
            for row in _ROW.finditer(text, table.start, table.end):
                if len(row.group()) <= MAX_JOINED_CHARACTERS:
                    yield Sentence(row.start(), row.end(), row.group(), "table", table.block)


def _states(sentence: Sentence) -> bool:
    """Tell whether it can be quoted by itself.

    That is no address, no single word, nothing struck out, and of headings "Deadline: 4 May" alone.
    """
    text = sentence.text
    if sentence.kind == "heading" or _STRUCK.fullmatch(text):
        return PAIR.match(text) is not None
    if sentence.kind == "code":
        short = len(text) <= MAX_CODE_CHARACTERS
        return short and bool(readable(text)) and not _STUB.search(text)
    if sentence.kind == "table":
        return len(text) <= MAX_JOINED_CHARACTERS and text.startswith(("|", "+"))
    if sum(map(_is_letter, text)) < LETTERS * len("".join(_RULE.sub("", text).split())):
        return False
    if sentence.kind == "record" or PAIR.match(text):
        return len(text) <= MAX_CODE_CHARACTERS
    said = words(_ADDRESS.sub("", text))
    runs = len(said) > len(text.split()) and len("".join(said)) >= MIN_RUN_CHARACTERS
    told = len(said) >= 3 or runs
    plain = _LOGGED.match(text) or not is_code(text)
    return told and sentence.kind in {"prose", "bullet"} and bool(plain)


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}


def _with_announced(text: str, found: Sequence[Sentence], place: int) -> Sentence:
    """Return a sentence that ends in a colon together with the code or list that follows it."""
    lead = found[place]
    if lead.kind not in {"prose", "bullet"} or not lead.text.rstrip("*_ ").endswith(":"):
        return lead
    end = lead.end
    kinds: set[Kind] = {"code", "bullet", "table"}
    for each in found[place + 1 :]:
        if each.kind == "markup" and end == lead.end and each.text.startswith(".. "):
            continue
        if each.kind not in kinds or each.end - lead.start > MAX_JOINED_CHARACTERS:
            break
        end, kinds = each.end, {each.kind} - {"code", "table"}
    return Sentence(lead.start, end, text[lead.start : end], lead.kind, lead.block)


def _torn(passage: Passage, sentence: Sentence, place: int, n: int) -> bool:
    """Tell whether the passage's edge seems to cut the sentence."""
    cut_before = place == 0 and passage.start > 0 and sentence.text[:1].islower()
    last = sentence.text.rstrip("\"'\u201d\u2019)*_`] ")[-1:]
    cut_after = place == n - 1 and sentence.kind == "prose" and (last.isalnum() or last == ",")
    return cut_before or (cut_after and len(sentence.text) > 40)
