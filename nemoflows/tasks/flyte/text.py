"""Settings as Flyte strings: the only form of a value that every way to start a workflow takes.

A struct with a default breaks `pyflyte run remote-launchplan` down to its `--help`, and an optional
struct cannot be given there; a string works everywhere.

Source: seen on Flyte 1 with flytekit 1.16, August 2026.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

from flytekit import FlyteContext
from flytekit.core.type_engine import TypeEngine, TypeTransformer
from flytekit.models.literals import Literal, Primitive, Scalar
from flytekit.models.types import LiteralType, SimpleType

from nemoflows.coding.types import Effort
from nemoflows.sandbox.levels import Limits
from nemoflows.settings import load, read_setting
from nemoflows.types import Policy, Setting

S = TypeVar("S", bound=Setting)


@cache
def register_texts() -> None:
    """Let Flyte carry the settings of the house as text."""
    for kind in (Policy, Effort, Limits):
        TypeEngine.register(AsText(kind))


class AsText(TypeTransformer[S]):  # type: ignore[misc]  # flytekit has no types
    """Writes settings as JSON, and reads them from JSON, YAML or a file's name."""

    def __init__(self, kind: type[S]) -> None:
        # With assertions on, `pyflyte run` refuses the text that a user typed.
        super().__init__(kind.__name__, kind, enable_type_assertions=False)
        self._kind = kind

    def get_literal_type(self, t: type[S]) -> LiteralType:
        """Return Flyte's type: a string."""
        del t
        return LiteralType(simple=SimpleType.STRING)

    def to_literal(
        self, ctx: FlyteContext, python_val: Any, python_type: type[S], expected: LiteralType
    ) -> Literal:
        """Return settings, or the text that somebody typed, as they travel.

        What is written means the same in a process with other defaults.

        Raises:
            BadInput: The text cannot be read.
        """
        del ctx, python_type, expected
        given = json.dumps(python_val) if isinstance(python_val, dict) else python_val
        value = self.read(given) if isinstance(given, str) else given
        return Literal(scalar=Scalar(primitive=Primitive(string_value=str(value))))

    def to_python_value(self, ctx: FlyteContext, lv: Literal, expected_python_type: type[S]) -> S:
        """Return the settings that a text says.

        Raises:
            BadInput: The text cannot be read.
        """
        del ctx, expected_python_type
        return self.read(lv.scalar.primitive.string_value)

    def read(self, text: str) -> S:
        """Return the settings of a text; what it leaves out is this process's default."""
        return read_setting(self._kind, text, self._default())

    def _default(self) -> S:
        return load().default_policy() if self._kind is Policy else self._kind()  # type: ignore[return-value]
