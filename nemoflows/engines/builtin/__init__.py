"""The tier without a model: extractive, deterministic, free.

The functions are pure, over typed values; `Builtin` gives them the shape of an engine.
"""

from __future__ import annotations

from nemoflows.engines.builtin.answers import synthesise
from nemoflows.engines.builtin.engine import Builtin
from nemoflows.engines.builtin.queries import plan, rewrite
from nemoflows.engines.builtin.quotes import extract
from nemoflows.engines.builtin.summaries import summarise, summarise_text

__all__ = [
    "Builtin",
    "extract",
    "plan",
    "rewrite",
    "summarise",
    "summarise_text",
    "synthesise",
]
