"""The tier without a model: extractive, deterministic, free.

The functions are pure, over typed values; `Embedded` gives them the shape of an engine.
"""

from __future__ import annotations

from nemoflows.engines.embedded.answers import synthesise
from nemoflows.engines.embedded.engine import Embedded
from nemoflows.engines.embedded.hops import merge_hops, rewrite
from nemoflows.engines.embedded.questions import plan
from nemoflows.engines.embedded.quotes import extract
from nemoflows.engines.embedded.summaries import summarise, summarise_text

__all__ = [
    "Embedded",
    "extract",
    "merge_hops",
    "plan",
    "rewrite",
    "summarise",
    "summarise_text",
    "synthesise",
]
