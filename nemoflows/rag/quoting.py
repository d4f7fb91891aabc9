"""The step `extract`: which sentences of the passages help to answer the question.

Passages are shown as numbered units (sentences, rows of a table, lines of code), and the reply is a
list of their marks. Code makes the quotes: what is never copied is never copied wrongly, and a mark
takes a tenth of the output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nemoflows.calls import Reply, Request
from nemoflows.calls.contract import (
    MAX_QUOTES,
    SHOWN,
    Step,
    a_list,
    a_string,
    an_object,
    checked_question,
    content,
    evidence,
    locate,
    passage_parts,
    question_part,
    request,
)
from nemoflows.errors import BadReply
from nemoflows.language.sentences import Sentence, sentences
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import unwrap
from nemoflows.rag.types import Passages, Quotes
from nemoflows.types import Evidence, Passage

EXTRACT = Step("extract", 256, priority=2)
MAX_UNIT_CHARACTERS = 600
"""Where a sentence is longer, its parts have numbers of their own."""
MAX_CHOICES = 250
"""Marks that a schema enumerates; where more are shown, code alone refuses others.

Source: OpenAI's documentation of structured outputs; above 250 values their length is limited.
"""
MAX_RANGES_TOLD = 40
MIN_COPY_CHARACTERS = 8
"""Of copied words that are looked for in every passage; shorter ones stand anywhere."""

Span = tuple[int, int]


async def extract(passages: Passages, *, client: BoundClient) -> Quotes:
    """Return verbatim quotes that help to answer the question, the most useful first."""
    question = checked_question(passages.question)
    if not passages.passages:
        return Quotes(question=question)
    done = unwrap(await client.ask(*quoting(question, passages.passages), stands_in=True))
    is_own = bool(done.stand_in or done.budget_note)
    found = {"calls": [] if is_own else done.calls, "builtin": is_own}
    return Quotes(
        question=question,
        evidence=[quote.model_copy(update=found) for quote in done.value],
        budget_note=done.budget_note,
        stand_in=done.stand_in,
        calls=done.calls,
    )


def quoting(
    question: str, passages: Sequence[Passage], *, shared: bool = False
) -> tuple[Request, Callable[[Reply, bool], list[Evidence]]]:
    """Return the request for quotes, and how its reply is read.

    Args:
        shared: Other agents read the very same passages.
    """
    shown = [_units(passage) for passage in passages]
    read = [
        part.model_copy(update={"units": [span for block in blocks for span in block]})
        for part, blocks in zip(passage_parts(passages), shown, strict=True)
    ]
    reader = Reader(passages, [part.units for part in read])
    words = (
        "Every sentence and line of the passages begins with its mark in brackets. Choose those "
        "that answer the question or help to answer it. Answer with their marks, the best one "
        f"first, at most {MAX_QUOTES}; for neighbouring lines that belong together give the first "
        "and the last one, with a hyphen between. If nothing helps, return an empty list."
    )
    choices = [*reader.spans, *_ranges(shown)]
    item = {"type": "string", "enum": choices} if 0 < len(choices) <= MAX_CHOICES else a_string(24)
    parts = [*read, question_part(question)]
    schema = an_object(quotes=a_list(item, MAX_QUOTES))
    n_shared = len(read) if shared else 0
    return request(EXTRACT, parts, words, schema, n_shared=n_shared), reader.read


def _units(passage: Passage) -> list[list[Span]]:
    """Return what has a number of its own, block by block; headings are shown above already."""
    above = {heading.strip() for heading in passage.heading.split(" > ")}
    found = [
        [span for line in _lines(each) for span in _parts(passage.text, line)]
        for each in sentences(passage.text)
        if each.kind != "heading" or each.text.strip('#=*-~^"` \n') not in above
    ]
    whole = passage.text.strip()
    return [block for block in found if block] or [[(0, len(passage.text))] if whole else []]


def _lines(each: Sentence) -> Iterator[Span]:
    """Yield the lines of what runs in lines, and a sentence as a whole."""
    if each.kind not in {"code", "table", "markup"}:
        yield each.start, each.end
        return
    start = each.start
    for line in each.text.splitlines(keepends=True):
        bare = line.rstrip()
        if bare.strip() and (each.kind == "code" or any(map(str.isalnum, bare))):
            yield start, start + len(bare)
        start += len(line)


def _parts(text: str, span: Span) -> Iterator[Span]:
    """Yield a stretch, cut between words where it is long."""
    start, end = span
    while end - start > MAX_UNIT_CHARACTERS:
        space = text.rfind(" ", start + 1, start + MAX_UNIT_CHARACTERS)
        cut = space if space > 0 else start + MAX_UNIT_CHARACTERS
        yield start, cut
        start = cut + len(text[cut:end]) - len(text[cut:end].lstrip())
    yield start, end


def _ranges(shown: Sequence[Sequence[Sequence[Span]]]) -> Iterator[str]:
    """Yield the ranges that a schema lets through: blocks of several lines, whole."""
    for n, blocks in enumerate(shown, 1):
        first = 1
        for block in blocks:
            if len(block) > 1:
                yield f"P{n}.{first}-P{n}.{first + len(block) - 1}"
            first += len(block)


_POINT = (
    r"[\[(<]*\s*(?:(?P<p{0}>[Pp](?:assage)?)\s*)?(?P<a{0}>\d+)\s*[.:]\s*(?P<b{0}>\d+)\s*[\])>]*"
)
_MARK = re.compile(
    rf"[\s\"'`,;]*{_POINT.format(0)}"
    rf"(?:\s*(?:-|\u2013|\u2014|\.\.+|to|until)\s*(?:{_POINT.format(1)}|(?P<last>\d+)(?![\w.])))?"
)

_SHOWN_AS = re.compile(r"\((?=\s*[Pp]\d+\.\d+\s*\])")
"""How a mark that a document itself writes begins where it is shown."""


class Reader:
    """Reads one reply and, where that cannot be used, the one after it: what held stays."""

    def __init__(self, passages: Sequence[Passage], units: Sequence[Sequence[Span]]) -> None:
        """Take what was shown."""
        self.passages = passages
        self.spans = {
            f"P{n}.{m}": (passage, *span)
            for n, (passage, spans) in enumerate(zip(passages, units, strict=True), 1)
            for m, span in enumerate(spans, 1)
        }
        self._ends = [f"P{n}.1 to P{n}.{len(spans)}" for n, spans in enumerate(units, 1) if spans]
        self._kept: list[Evidence] = []
        self._were_wrong = False

    def read(self, reply: Reply, final: bool) -> list[Evidence]:
        """Return the quotes that a reply's marks stand for.

        Raises:
            BadReply: It is no list, or names what was not shown; at the last try only where
                nothing at all holds. After wrong marks an empty list says nothing of the passages.
        """
        if not final:
            self._kept, self._were_wrong = [], False
        try:
            found, wrong = self._found(_items(reply))
        except BadReply:
            if self._kept:
                return self._kept
            raise
        every = {(each.passage, each.start, each.end): each for each in [*self._kept, *found]}
        self._kept = list(every.values())[:MAX_QUOTES]
        were_wrong, self._were_wrong = self._were_wrong, bool(wrong)
        if wrong and not (final and self._kept):
            raise BadReply(f"Not among the marks that were shown: {wrong}. {self._choices()}")
        if were_wrong and not self._kept:
            raise BadReply(f"An empty list came where marks were wrong before. {self._choices()}")
        return self._kept

    def _choices(self) -> str:
        more = "; and so on" if len(self._ends) > MAX_RANGES_TOLD else ""
        return f"Shown were {', '.join(self._ends[:MAX_RANGES_TOLD])}{more}."

    def _found(self, items: Sequence[Any]) -> tuple[list[Evidence], str]:
        found, wrong = [], []
        for item in items[: 2 * MAX_QUOTES]:
            places = self._places(item)
            found += places
            if not places:
                text = item if isinstance(item, str) else str(item)
                wrong.append(repr(text) if len(text) <= 24 else "a text that is no mark")
        return found, ", ".join(dict.fromkeys(wrong[:SHOWN]))

    def _places(self, item: Any) -> list[Evidence]:
        """Return what one item stands for, however it is written."""
        if isinstance(item, dict):
            return self._of_object(item)
        if isinstance(item, list):
            return [place for each in item[:MAX_QUOTES] for place in self._places(each)]
        if isinstance(item, int | float) and not isinstance(item, bool):
            return self._of_number(item)
        return (self._of_text(item) or self._copied(item)) if isinstance(item, str) else []

    def _of_number(self, number: float) -> list[Evidence]:
        """Return what a bare number stands for, where that can be only one thing."""
        if isinstance(number, int):
            return self._of_text(f"P1.{number}") if len(self.passages) == 1 else []
        return [] if f"P{number}0" in self.spans else self._of_text(f"P{number}")

    def _of_text(self, text: str) -> list[Evidence]:
        """Return what the marks of a text stand for; what follows a mark may be its sentence."""
        found: list[Evidence] = []
        at = 0
        while match := _MARK.match(text, at):
            bare = not (match["p0"] or "[" in match.group())
            rest = text[match.end() :].strip(" \t\n.,;\"'`")
            if bare and rest and not _MARK.match(rest):  # "2.5 million" is no mark
                break
            first, last = f"P{match['a0']}.{match['b0']}", match["b1"] or match["last"]
            end = f"P{match['a1'] or match['a0']}.{last or match['b0']}"
            found += self._between(first, end)
            at = match.end()
        return found

    def _between(self, first: str, last: str) -> list[Evidence]:
        a, b = self.spans.get(first), self.spans.get(last)
        if a is None or b is None or a[0] is not b[0] or a[1] > b[1]:
            return []
        return [evidence(a[0], a[1], b[2])]

    def _of_object(self, item: dict[str, Any]) -> list[Evidence]:
        """Return what an object names: a mark, two ends, a passage and a number, or its words."""
        named = str(item.get("passage", ""))
        if isinstance(item.get("quote"), str):
            return self._copied(item["quote"], named)
        values = [str(v) for v in item.values() if isinstance(v, str | int | float)]
        whole = [self._of_text(value) for value in values]
        if len(values) == 2 and all(whole):
            return self._of_text("-".join(values)) or whole[0]
        pair = re.fullmatch(r"\W*[Pp]?(?:assage )?(\d+)\W+(\d+)\W*", " ".join(values))
        if not any(whole) and pair:
            return self._of_text(f"P{pair[1]}.{pair[2]}")
        return [place for places in whole for place in places]

    def _copied(self, quote: str, named: str = "") -> list[Evidence]:
        """Return where copied words stand: in the passage named, else wherever they do."""
        quote = _SHOWN_AS.sub("[", quote)
        marks = {f"P{n}": passage for n, passage in enumerate(self.passages, 1)}
        first = [marks[named]] if named in marks else []
        others = self.passages if len(quote.strip()) >= MIN_COPY_CHARACTERS else []
        places = (locate(quote, passage) for passage in [*first, *others])
        return [place for place in places if place is not None][:1]


def _items(reply: Reply) -> list[Any]:
    """Return the list in a reply, under whatever name.

    Raises:
        BadReply: There is none.
    """
    told = content(reply)
    if isinstance(told, dict):
        known = [told[name] for name in ("quotes", "marks") if told.get(name) is not None]
        told = (known or list(told.values()) or [None])[0]
    told = [told] if isinstance(told, str) and told.strip() else told
    if not isinstance(told, list):
        raise BadReply("The reply must be an object with 'quotes' as a list of marks.")
    return told
