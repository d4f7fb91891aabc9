r"""A user's prompt over a row: the user's own words, and the row's text as data.

    Template("Is this ticket urgent?\n{subject}\n{body}")

What stands between braces is a field of the row; it reaches a model delimited, never as an
instruction. A prompt that names no field is followed by all of them.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from nemoflows.calls import Part
from nemoflows.errors import BadInput

Prompt = str | Callable[[Any], Sequence[Part]]
"""A template, or a function from a row to the parts of a request."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt that was checked when it was declared."""

    prompt: Prompt

    def __post_init__(self) -> None:
        """Check the braces.

        Raises:
            BadInput: They do not pair, or hold more than a field's name.
        """
        self.names  # noqa: B018  (raises)

    @property
    def names(self) -> list[str]:
        """Return the fields that the prompt names, in order; none for a function."""
        return [name for _, name in self._pieces() if name]

    def parts(self, row: Any) -> list[Part]:
        """Return the parts of a row's request.

        Raises:
            BadInput: The row lacks a field that the prompt names.
        """
        if callable(self.prompt):
            return list(self.prompt(row))
        fields = fields_of(row)
        self.refuse_missing(fields)
        parts: list[Part] = []
        for words, name in self._pieces():
            parts += [Part(text=words)] if words.strip() else []
            parts += [_data(name, fields[name])] if name else []
        named = self.names
        return parts if named else parts + [_data(*field) for field in fields.items()]

    def refuse_missing(self, fields: Mapping[str, Any]) -> None:
        """Refuse a row that lacks a field.

        Raises:
            BadInput: The message names both, and what the row has.
        """
        if missing := [name for name in self.names if name not in fields]:
            raise BadInput(
                f"The prompt names {', '.join(f'{{{name}}}' for name in missing)}, and the row has "
                f"only {', '.join(fields) or 'nothing'}. Correct the prompt or the rows; braces of "
                "your own are written twice. No call was made."
            )

    def _pieces(self) -> list[tuple[str, str]]:
        """Return pairs of the user's words and the field after them; empty at the end."""
        if callable(self.prompt):
            return []
        try:
            pieces = list(string.Formatter().parse(self.prompt))
        except ValueError as error:
            raise BadInput(
                f"The prompt is not a template ({error}): braces of your own are written twice."
            ) from None
        for _, name, spec, conversion in pieces:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise BadInput(
                    f"{{{name}}} in the prompt is not the name of a field: write {{name}} alone; "
                    "braces of your own are written twice."
                )
        found, words = list[tuple[str, str]](), ""
        for more, name, _, _ in pieces:
            words += more
            if name:  # a brace that was written twice ends a piece without a name
                found.append((words, name))
                words = ""
        return [*found, (words, "")]


def fields_of(row: Any) -> dict[str, Any]:
    """Return a row's fields: of a model or mapping its own, of a text the one field `text`."""
    if isinstance(row, str):
        return {"text": row}
    if isinstance(row, BaseModel):
        return row.model_dump(mode="json")
    if isinstance(row, Mapping):
        return {str(name): value for name, value in row.items()}
    raise BadInput(
        f"A row is a text, a mapping or a pydantic model, not a {type(row).__name__}. No call was "
        "made."
    )


def _data(name: str, value: Any) -> Part:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Part(kind="field", id=name, text=text)
