"""Corpus to index to passages: what is read, how it is cut, how it is found."""

from __future__ import annotations

from nemoflows.search.build import build_index
from nemoflows.search.index import SearchIndex, open_index

__all__ = ["SearchIndex", "build_index", "open_index"]
