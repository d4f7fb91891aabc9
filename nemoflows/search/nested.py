"""Render JSON and XML as lines "path key: value" that say by themselves where a value stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, sections
from nemoflows.search.tables import BODIES, TITLES

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DEPTH = 100
"""Of lists and objects in one another; a deeper file is read as the text that it is."""
MAX_GROWTH = 8
"""How many times longer the lines may be than the file: a path stands on each of its lines."""
_ONE_LINE = 300
_PROSE = 80
"""Characters from which a text of a list is a paragraph."""
_TITLES = (*TITLES, "id", "key", "label", "code")
_ENTITIES = re.compile(r"<!ENTITY|<!DOCTYPE[^>\[]*\[", re.IGNORECASE)
_COMMENTS = re.compile(
    r"(?P<text>\"(?:\\.|[^\"\\])*+\"?)|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?|,(?=\s*+[}\]])",
    re.DOTALL,
)
"""What settings of editors and compilers add to JSON: comments, a comma behind the last item."""
_PREFIX = re.compile(r"^\{[^}]*\}")

Read = tuple[str, list[Section]]


def json_text(text: str) -> Read | None:
    """Return the lines of a JSON document, or of one object per line; None where it is neither."""
    try:
        return _rendered(_loaded(text), text)
    except (ValueError, RecursionError):
        return None


def xml_text(text: str) -> Read | None:
    """Return the lines of an XML document; None where it is none, or has entities of its own."""
    from xml.etree import ElementTree as ET

    if _ENTITIES.search(text):  # they may stand for more than the memory holds
        return None
    try:
        root = ET.fromstring(text.lstrip("\ufeff \t\r\n"))  # noqa: S314 - no entities
        value = _value(root, 0)
        return _rendered(value if _tag(root) == "plist" else {_tag(root): value}, text)
    except (ET.ParseError, ValueError, RecursionError):
        return None


def _loaded(text: str) -> Any:
    # Numbers stay as they are written: 1.10 is no 1.1.
    def loads(part: str) -> Any:
        return json.loads(part, parse_float=str, parse_int=str, strict=False)

    try:
        return loads(text)
    except ValueError:
        with suppress(ValueError):
            return loads(_COMMENTS.sub(lambda match: match["text"] or "", text))
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return list(map(loads, lines))


def _rendered(value: Any, text: str) -> Read | None:
    page = _Page(MAX_GROWTH * len(text) + 1000)
    page.add(value, (), 0)
    return ("".join(page.parts), sections(page.headings)) if page.parts else None


def _tag(element: Element) -> str:
    return _PREFIX.sub("", str(element.tag))


def _value(element: Element, depth: int) -> Any:
    """Return an element as JSON would have it: its attributes and children by name, or its text."""
    _refuse_deep(depth)
    children = [child for child in element if isinstance(child.tag, str)]
    own = " ".join((element.text or "").split())
    if listed := _listed(element, children, depth):
        return listed
    if any((child.tail or "").strip() for child in element) or (own and children):
        own, children = " ".join("".join(element.itertext()).split()), []
    found: dict[str, Any] = {_PREFIX.sub("", name): said for name, said in element.items()}
    if not found and not children:
        return own
    if own:
        found = {"": own, **found}
    for child in children:
        name, value = _tag(child), _value(child, depth + 1)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _listed(element: Element, children: Sequence[Element], depth: int) -> Any:
    """Return what a property list says by its tags: names and values in turn, a list, a truth."""
    tag, names = _tag(element), [_tag(child) for child in children]
    if tag == "dict" and len(names) % 2 == 0 and set(names[::2]) == {"key"}:
        keys = ("".join(key.itertext()) for key in children[::2])
        return {
            key: _value(told, depth + 1) for key, told in zip(keys, children[1::2], strict=True)
        }
    if tag in {"array", "plist"} and children:
        told = [_value(child, depth + 1) for child in children]
        return told if tag == "array" or len(told) > 1 else told[0]
    is_bare = not (children or element.text or element.attrib)
    return tag if tag in {"true", "false"} and is_bare else None


def _refuse_deep(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


class _Page:
    """Lines as they grow; an object is a block of lines, and one of a list has a heading too."""

    def __init__(self, most: int) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.pending: list[tuple[int, str]] = []
        """Level and title of the headings above the next line."""
        self.most = most
        self.length = 0
        self.gap = ""

    def add(self, value: Any, path: Sequence[str], depth: int, level: int = 0) -> None:
        """Add what stands below a path, and below headings of up to this level."""
        _refuse_deep(depth)
        if isinstance(value, Mapping):
            self.gap = self.gap if level else "\n\n"
            for name, told in sorted(value.items(), key=lambda item: _is_nested(item[1])):
                below = (*path, " ".join(name.split())) if name.strip() else path
                self.add(told, below, depth + 1, level)
        elif _is_nested(value):
            self.rows(value, " ".join(path), depth, level)
        elif isinstance(value, list) and any(len(_shown(each)) > _PROSE for each in value):
            for each in value:
                self.put((), _shown(each), own=True)
        else:
            self.put(path, _shown(value))

    def rows(self, value: Sequence[Any], name: str, depth: int, level: int) -> None:
        """Add the objects of a list, each below a heading of its own."""
        self.pending.append((level, name))
        for number, each in enumerate(value, start=1):
            self.pending.append((level + 1, _title(each) or str(number)))
            self.gap = "\n\n"
            self.add(each, (), depth + 1, level + 2)
        self.pending.append((level, ""))
        self.gap = "\n\n"

    def put(self, path: Sequence[str], said: str, *, own: bool = False) -> None:
        """Add a line, or a paragraph of its own where it is one."""
        if not said:
            return
        body = path[-1:] and path[-1].lower() in BODIES
        own = own or bool(body) or len(said) > _ONE_LINE or "\n" in said
        key = " ".join(path[:-1] if body else path)
        gap = ("\n\n" if own else self.gap) if self.parts else ""
        at = self.length + len(gap)
        self.headings += [(at, level, title) for level, title in self.pending]
        self.pending.clear()
        self.parts.append(f"{gap}{key}: {said}" if key else gap + said)
        self.length += len(self.parts[-1])
        self.gap = "\n\n" if own else "\n"
        if self.length > self.most:
            raise CorpusError(f"its lines are longer than {self.most:,} characters")


def _is_nested(value: Any) -> bool:
    """Tell whether a value has lines of its own: an object, or a list that holds any."""
    if isinstance(value, list):
        return any(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(filter(None, map(_shown, value)))
    return "" if value is None else str(value).replace("\0", "\ufffd").strip()


def _title(value: Any) -> str:
    """Return what an object of a list is called."""
    if not isinstance(value, Mapping):
        return ""
    names = {name.lower(): name for name in value}
    called = [names[name] for name in _TITLES if name in names]
    plain = (said for name in (*called, *value) if (said := _plain(value[name])))
    return next(plain, "")


def _plain(value: Any) -> str:
    said = "" if _is_nested(value) or isinstance(value, list) else _shown(value)
    return said if len(said) <= _ONE_LINE and "\n" not in said else ""
