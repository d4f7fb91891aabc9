"""Values whose meaning is plain though their JSON type is not the one that a schema asks for.

"1" for 1, one value for a list of one, null for an empty list, an object in a list or under a key
of the model's own. What is not plain stays as it is: whoever checks the reply says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MOST_DEPTH = 64
"""Deepest nesting that is followed."""
MOST_ENCODED = 4
"""Times that a value may be text in text."""
_INTEGER = re.compile(r"[\[(]?\s*([+-]?\d{1,18})(?:\.0+)?\s*[\])]?")
_NUMBER = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,3})?")
_INTEGERS = re.compile(r"[\s,;\[\]()]*+(?:[+-]?\d{1,18}[\s,;\[\]()]*+)++")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NOTHING = frozenset({"null", "none", "n/a", "nil"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fit(value: Any, schema: dict[str, Any]) -> Any:
    """Return a value as a schema has it, as far as its meaning is plain."""
    return _fit(value, schema, schema.get("$defs", {}), 0)


def score(value: Any, schema: dict[str, Any]) -> float:
    """Return how far a value is what a schema asks for, at its top; 0 where it is not at all."""
    if not fits(value, schema):
        return 0
    names = schema.get("required", [])
    if not isinstance(value, dict) or not names:
        return 1
    return sum(name in value for name in names) / len(names)


def listed(found: list[Any], schema: dict[str, Any]) -> list[Any]:
    """Return values as one, where they are the items of the only list that is asked for."""
    parts = list(schema.get("properties", {}).values())
    items = parts[0].get("items", {}) if len(parts) == 1 else {}
    whole = items.get("required") and all(score(each, items) == 1 for each in found)
    return [found] if whole else found


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a value is of a schema's type, or one of its choices, at its top."""
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return any(fits(value, option) for option in options)
    told = schema.get("type")
    names = told if isinstance(told, list) else [told]
    if isinstance(value, bool):
        return bool({"boolean", None} & {*names})
    known = (kind for name in names for kind in _TYPES.get(name or "", (object,)))
    return isinstance(value, tuple(known))


def _fit(value: Any, schema: dict[str, Any], named: dict[str, Any], depth: int) -> Any:
    for _ in range(MOST_DEPTH):
        if "$ref" not in schema:
            break
        schema = named.get(schema["$ref"].rpartition("/")[2], {})
    if depth > MOST_DEPTH:
        return value
    if "enum" in schema or "const" in schema:
        return _choice(value, schema.get("enum", [schema.get("const")]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _option(value, options, named, depth)
    kind = schema.get("type") or ""
    if isinstance(kind, list):
        return _option(value, [schema | {"type": each} for each in kind], named, depth)
    if kind in {"object", "array"}:
        return (_object if kind == "object" else _list)(value, schema, named, depth)
    return _SCALARS[kind](value) if kind in _SCALARS else value


def _option(value: Any, options: list[Any], named: dict[str, Any], depth: int) -> Any:
    """Return the value under the first option that it fits, as it is or with its plain meaning."""
    whole = [named.get(o["$ref"].rpartition("/")[2], o) if "$ref" in o else o for o in options]
    if {"type": "null"} in whole and isinstance(value, str) and value.strip().lower() in _NOTHING:
        return None
    by_score = [(score(value, option), n) for n, option in enumerate(whole)]
    best, n = max(by_score, key=lambda each: (each[0], -each[1]))
    if best:
        return _fit(value, whole[n], named, depth + 1)
    read = (_fit(value, option, named, depth + 1) for option in whole)
    return next((r for r, o in zip(read, whole, strict=False) if fits(r, o)), value)


def _choice(value: Any, choices: list[Any]) -> Any:
    """Return the choice that is meant: alike but for case, signs, and quotes around it."""
    if value in choices and not isinstance(value, bool):
        return value
    if isinstance(value, list | dict) and len(value) == 1:
        return _choice(next(iter(value.values() if isinstance(value, dict) else value)), choices)
    alike = [each for each in choices if _folded(each) == _folded(value)]
    return alike[0] if len(alike) == 1 else value


def _folded(value: Any) -> str:
    return re.sub(r"[^\w.]+|_", "", str(value)).strip(".").casefold() or str(value)


def _object(value: Any, schema: dict[str, Any], named: dict[str, Any], depth: int) -> Any:
    parts: dict[str, Any] = schema.get("properties", {})
    inner = _unwrapped(value, parts, depth)
    if not isinstance(inner, dict):
        return _wrapped(value, parts, named, depth)
    by_name = {_folded(name): name for name in parts}
    keys = {name: name if name in parts else by_name.get(_folded(name), name) for name in inner}
    if not set(keys.values()) & set(parts):
        return _wrapped(value, parts, named, depth)
    is_closed = schema.get("additionalProperties") is False
    told = {
        keys[name]: each for name, each in inner.items() if keys[name] in parts or not is_closed
    }
    return {n: _fit(v, parts[n], named, depth + 1) if n in parts else v for n, v in told.items()}


def _unwrapped(value: Any, parts: dict[str, Any], depth: int) -> Any:
    """Return the object that is meant: itself, or the one inside a text, a list or another."""
    names = {_folded(name) for name in parts}
    value = _read(value)
    if isinstance(value, list) and len(value) == 1:
        value = _read(value[0])
    if not isinstance(value, dict) or depth > MOST_DEPTH:
        return value
    if names & {_folded(name) for name in value}:
        return value
    within = (_unwrapped(each, parts, depth + 16) for each in value.values())
    return next((w for w in within if isinstance(w, dict) and names & {*map(_folded, w)}), value)


def _wrapped(value: Any, parts: dict[str, Any], named: dict[str, Any], depth: int) -> Any:
    """Return an object of one property around what is meant as its value, where that is plain."""
    if len(parts) != 1:
        return value
    [(name, schema)] = parts.items()
    value, items = _read(value), schema.get("items", {})
    if isinstance(value, dict) and len(value) == 1 and schema.get("type") == "array":
        [value] = value.values()  # the list is there, under a name of the model's own
    fitted = _fit(value, schema, named, depth + 1)
    is_text = schema.get("type") == "string" and "enum" not in schema
    is_told = schema.get("type") not in {"array", "object"}
    if isinstance(value, list):  # the marks of a text, such as [1], are no list of texts
        told = (_string(each) if isinstance(each, dict) else each for each in value)
        is_told = all(fits(a, items) or fits(b, items) for a, b in zip(value, told, strict=True))
    return {name: fitted} if is_told and not is_text and fits(fitted, schema) else value


def _read(value: Any) -> Any:
    """Return the JSON that a text holds, such as arguments that were encoded twice."""
    inner = value
    for _ in range(MOST_ENCODED):
        if not isinstance(inner, str) or inner.lstrip()[:1] not in {"{", "[", '"'}:
            break
        try:
            inner = json.loads(inner, strict=False)
        except (ValueError, RecursionError):
            return value
    return inner if isinstance(inner, dict | list) else value


def _list(value: Any, schema: dict[str, Any], named: dict[str, Any], depth: int) -> Any:
    items = schema.get("items", {})
    value = _read(value)
    if value is None:
        return []
    if isinstance(value, str) and items.get("type") == "integer" and _INTEGERS.fullmatch(value):
        value = [int(each) for each in re.findall(r"[+-]?\d+", value)]
    if isinstance(value, dict) and value and all(map(str.isdigit, value)):  # numbered
        value = list(value.values())
    if not isinstance(value, list):
        only = _fit(value, items, named, depth + 1)
        return [only] if fits(only, items) else value
    return [_fit(each, items, named, depth + 1) for each in value]


def _integer(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (told := _INTEGER.fullmatch(value.strip())):
        return int(told[1])
    return _alone(value, _integer)


def _number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        told = float(value)
        return int(value) if re.fullmatch(r"[+-]?\d+", value.strip()) else told
    return _alone(value, _number)


def _boolean(value: Any) -> Any:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return _BOOLEANS.get(str(value).strip().lower(), value)
    return _alone(value, _boolean)


def _string(value: Any) -> Any:
    if isinstance(value, int | float):  # a bool too
        return json.dumps(value)
    if isinstance(value, dict) and len(value) == 1:
        [value] = value.values()
    return _alone(value, _string)


def _alone(value: Any, read: Callable[[Any], Any]) -> Any:
    """Return what a list of one value means where one value is asked for."""
    return read(value[0]) if isinstance(value, list) and len(value) == 1 else value


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
}
