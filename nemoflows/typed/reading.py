"""Reading a reply into a user's model: every value checked, every quote found by code.

The first reading raises `BadReply` with words the model can act on. The last one keeps what holds:
an optional value that does not is left out, any other loses its span, and both are named.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from nemoflows.calls import Reply, contract
from nemoflows.errors import BadReply
from nemoflows.schemas import (
    Choices,
    Field,
    Fixed,
    Leaf,
    Many,
    Node,
    Record,
    Shape,
    SizeLimits,
    within,
)
from nemoflows.typed import values
from nemoflows.typed.types import Span
from nemoflows.types import Passage

M = TypeVar("M", bound=BaseModel)

NOTHING = "The passage gives nothing of the record."

_ABSENT: Any = object()
"""Stands for a value that the passage does not give; None is a value."""


@dataclass(frozen=True, slots=True)
class Filled(Generic[M]):
    """A record, or why there is none."""

    value: M | None
    spans: list[Span] = field(default_factory=list)
    problem: str = ""


def read_record(reply: Reply, shape: Shape[M], passage: Passage, *, final: bool) -> Filled[M]:
    """Return what a reply says about a record.

    A record that the passage does not give whole is an answer and not an error: asking again
    would only teach a model to invent the rest.

    Raises:
        BadReply: A quote is not in the passage, or a value breaks a bound; at the last try only
            where the reply is no record at all.
    """
    content = contract.field(reply, "record", dict)
    walk = _Walk(passage, shape.room, final=final)
    plain = walk.read(shape.record, content, "", keep=True)
    if plain is _ABSENT:
        walk.refuse()
        return Filled(None, problem=listed([NOTHING, *walk.wrong]))
    value, faults = validated(shape.model, plain)
    missing = [fault.path for fault in faults if fault.missing]
    walk.wrong += [fault.text for fault in faults if not fault.missing]
    walk.refuse()
    dropped = [path for fault in faults if (path := _prune(plain, shape.record, fault.place))]
    if dropped:
        value, _ = validated(shape.model, plain)
    gaps = [f"not in the passage: {', '.join(missing)}"] if missing else []
    spans = [span for span in walk.spans if not _within(span.field, dropped)]
    return Filled(value, spans, listed([*gaps, *walk.wrong, *walk.cut]))


@dataclass(slots=True)
class _Walk:
    """One way through a reply, along the tree of fields."""

    passage: Passage
    room: SizeLimits
    final: bool
    spans: list[Span] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    """Doubts that no second ask would settle: values cut by their room, or not in their quote."""
    said: str = ""
    """The description of the field that is being read."""

    def refuse(self) -> None:
        """Raise what is wrong so far, unless this is the last try."""
        if self.wrong and not self.final:
            raise BadReply(listed(self.wrong))

    def read(self, node: Node, reply: Any, path: str, *, keep: bool) -> Any:
        """Return the plain value of a node.

        Args:
            keep: The record is nothing without this value: keep it even without its quote.
        """
        match node:
            case Leaf():
                return self._leaf(node, reply, path, keep=keep)
            case Fixed():
                return node.value
            case Many():
                return self._many(node, reply, path)
            case Choices():
                return self._choice(node, reply, path)
            case Record():
                return self._record(node, reply, path)

    def _leaf(self, leaf: Leaf, reply: Any, path: str, *, keep: bool) -> Any:
        if reply is None:
            return _ABSENT
        quote = reply.get("quote") if isinstance(reply, dict) else None
        if not isinstance(quote, str) or "value" not in reply:
            self.wrong.append(f"{path} must be an object with `quote` and `value`")
            return _ABSENT
        if not quote.strip():
            return _ABSENT
        return self._value(leaf, reply["value"], quote, path, keep=keep)

    def _value(self, leaf: Leaf, value: Any, quote: str, path: str, *, keep: bool) -> Any:
        """Return a value that comes with a quote, as the document has it."""
        value = values.filled(leaf, value, quote)
        if value is None and values.is_blank(quote):
            return _ABSENT
        if value is None:
            self.cut.append(f"{path} came empty beside the quote {quote[:80]!r}")
            return _ABSENT
        if not _in_range(leaf, value):
            self.wrong.append(f"{path} is out of range")
            return _ABSENT
        found = contract.locate(quote, self.passage)
        if found is None:
            self.wrong.append(f"{path}: {quote[:80]!r} is not in the passage word for word")
            return value if keep else _ABSENT
        self.spans.append(Span(field=path, **found.model_dump(include=_PLACE)))
        value = values.as_written(leaf, value, found, self.passage)
        if not values.agrees(leaf, value, found.quote):
            self.cut.append(f"{path}: {str(value)[:80]!r} does not stand in its quote")
        if date := values.open_date(leaf, found, self.passage, self.said):
            self.cut.append(
                f"{path}: {date} may begin with the day or the month: say which in the field's "
                "description"
            )
        self._mark_cut(leaf, value, path)
        return value

    def _mark_cut(self, leaf: Leaf, value: Any, path: str) -> None:
        rooms = [within(s.at_most, s.at_least, self.room.text) for s in leaf.scalars]
        bounds = [s.at_most for s in leaf.scalars]
        if isinstance(value, str) and len(value) >= max(rooms) and max(rooms) not in bounds:
            self.cut.append(f"{path} may go on after {len(value)} characters")

    def _many(self, many: Many, reply: Any, path: str) -> Any:
        if not isinstance(reply, list):
            if reply is not None:
                self.wrong.append(f"{path} must be a list")
            return []
        kept: list[Any] = []
        for item in reply:
            read = self.read(many.item, item, f"{path}[{len(kept)}]", keep=False)
            if read is not _ABSENT:
                kept.append(read)
        most = within(many.at_most, many.at_least, self.room.items)
        if len(reply) >= most and most != many.at_most:
            self.cut.append(f"{path} may go on after {len(reply)} entries")
        return kept

    def _choice(self, choices: Choices, reply: Any, path: str) -> Any:
        tag = reply.get(choices.tag) if isinstance(reply, dict) else None
        record = choices.record(tag)
        if record is None:
            if reply is not None:
                self.wrong.append(f"{path} must be an object whose {choices.tag!r} is known")
            return _ABSENT
        return self._record(record, reply, path)

    def _record(self, record: Record, reply: Any, path: str) -> Any:
        if not isinstance(reply, dict):
            if reply is not None:
                self.wrong.append(f"{path} must be an object")
            return _ABSENT
        plain: dict[str, Any] = {}
        before = len(self.spans) + len(self.wrong)
        for part in record.fields:
            inner = f"{path}.{part.name}" if path else part.name
            self.said = part.description
            read = self.read(part.node, reply.get(part.name), inner, keep=part.needed)
            if read is _ABSENT:
                read = None if part.required and part.nullable else _ABSENT
            if read is not _ABSENT:
                plain[part.name] = read
        return plain if len(self.spans) + len(self.wrong) > before else _ABSENT


_PLACE = {"quote", "document", "start", "end"}


def _in_range(leaf: Leaf, value: Any) -> bool:
    """Return whether a number is one that JSON and Flyte's edge carry exactly."""
    ranges = [(s.least, s.most) for s in leaf.scalars if s.kind in {"integer", "number"}]
    if not isinstance(value, int | float) or isinstance(value, bool) or not ranges:
        return True
    return any(least <= value <= most for least, most in ranges)


def refuse_large_numbers(content: Any) -> None:
    """Refuse integers that Flyte's edge does not carry.

    Raises:
        BadReply: A number anywhere in the JSON value is beyond ±2^53.
    """
    inner = content.values() if isinstance(content, dict) else content
    for value in inner if isinstance(content, dict | list) else ():
        refuse_large_numbers(value)
    if isinstance(content, int) and abs(content) > 2**53:
        raise BadReply(f"A number of {len(str(content))} digits is beyond ±2^53.")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that the user's model says is wrong."""

    place: tuple[int | str, ...]
    text: str
    missing: bool = False

    @property
    def path(self) -> str:
        """Return the place as a path, such as `lines[0].amount`."""
        return _path(self.place)


def validated(model: type[M], plain: dict[str, Any]) -> tuple[M | None, list[Fault]]:
    """Return the user's model of a plain value, or what is wrong with it.

    As JSON, so that a strict model takes dates from strings; a NaN is not JSON.
    """
    try:
        return model.model_validate_json(json.dumps(plain, allow_nan=False)), []
    except ValidationError as error:
        found = [
            Fault(each["loc"], each["msg"], each["type"] == "missing")
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        return None, [replace(f, text=f"{f.path or 'the record'}: {f.text}") for f in found]
    except Exception as error:  # noqa: BLE001  (a user's validators may raise anything)
        return None, [Fault((), f"the record: {type(error).__name__}: {error}")]


def _prune(plain: dict[str, Any], record: Record, place: Sequence[int | str]) -> str:
    """Leave out the smallest part around `place` that the record can be without.

    Returns:
        The path of that part; empty where the record is nothing without it.
    """
    for n in range(len(place), 0, -1):
        if _drop(plain, record, place[:n]):
            return _path(place[:n])
    return ""


def _drop(plain: dict[str, Any], record: Record, place: Sequence[int | str]) -> bool:
    holder: Any = plain
    node: Node | None = record
    for step in place[:-1]:
        node = _below(node, step)
        holder = holder[step] if _holds(holder, step) else None
    part = _named(node, place[-1])
    if part is None or part.needed or not isinstance(holder, dict):
        return False
    holder.pop(part.name, None)
    if part.required:
        holder[part.name] = None
    return True


def _below(node: Node | None, step: int | str) -> Node | None:
    if isinstance(node, Many):
        return node.item
    part = _named(node, step)
    return part.node if part else None


def _named(node: Node | None, name: int | str) -> Field | None:
    parts = node.fields if isinstance(node, Record) else ()
    return next((part for part in parts if part.name == name), None)


def _holds(holder: Any, step: int | str) -> bool:
    return step in holder if isinstance(holder, dict) else isinstance(holder, list)


def _path(place: Sequence[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return "".join(steps).removeprefix(".")


def _within(path: str, others: Sequence[str]) -> bool:
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in others)


def listed(texts: Sequence[str]) -> str:
    """Return the first few texts as one."""
    more = len(texts) - contract.SHOWN
    shown = "; ".join(text.rstrip(".") for text in texts[: contract.SHOWN])
    return shown + (f"; and {more} more." if more > 0 else "." if texts else "")
