"""A user's pydantic model as what a model is asked for: a tree of fields, a bounded schema.

Pure policy: no model, no document and no reply is needed to tell whether a shape can be asked for.
"""

from __future__ import annotations

from nemoflows.schemas.bounds import (
    CHARACTERS_PER_TOKEN,
    Shape,
    SizeLimits,
    bounded,
    longest,
    reply_schema,
    within,
)
from nemoflows.schemas.scalars import FORMATS, HINTS, LARGEST, Scalar
from nemoflows.schemas.tree import (
    Choices,
    Field,
    Fixed,
    Leaf,
    Many,
    Node,
    Record,
    record_of,
)

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "FORMATS",
    "HINTS",
    "LARGEST",
    "Choices",
    "Field",
    "Fixed",
    "Leaf",
    "Many",
    "Node",
    "Record",
    "Scalar",
    "Shape",
    "SizeLimits",
    "bounded",
    "longest",
    "record_of",
    "reply_schema",
    "within",
]
