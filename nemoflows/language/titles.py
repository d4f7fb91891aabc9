"""What a passage is about by its title and its path, and which name each other's titles."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePosixPath

from nemoflows.language.terms import terms, words
from nemoflows.types import Passage

_APART = re.compile(r"\s*\([^)]*\)\s*$")
"""The part of a title that tells namesakes apart, as in "Mercury (planet)"."""
_RELEASE = re.compile(r"[-_ ]v?\d+(?:\.\d+)*(?:[.+-]\w+)*$")
"""What a path says of a release, as in "rich-15.0.0"."""
_EVERYWHERE = frozenset(
    """
    readme index init main src lib docs doc test tests package packages utils util common core data
    examples example changelog license history faq guide api site en home overview
    """.split()  # noqa: SIM905 - one word per line would be a page
)
"""Names that say nothing of what a document is about."""


def title(passage: Passage) -> str:
    """Return the outermost heading; without headings the document's name, spaces for marks."""
    if passage.heading:
        return _APART.sub("", passage.heading.split(" > ")[0]).strip()
    name = PurePosixPath(passage.document)
    return "" if "#" in name.name else " ".join(words(name.stem))


@lru_cache(maxsize=4096)
def subjects(document: str) -> tuple[frozenset[str], ...]:
    """Return the terms of each name in a document's path, outermost first, releases left out."""
    if "#" in document:
        return ()
    path = PurePosixPath(document)
    names = [_RELEASE.sub("", name) for name in (*path.parts[:-1], path.stem)]
    told = (frozenset(terms(name)) for name in names if name.lower() not in _EVERYWHERE)
    return tuple(name for name in told if name)


def mentions(passage: Passage, other: Passage) -> bool:
    """Tell whether the text of `passage` names the title of `other`."""
    named = _line(title(other))
    return len(named) > 5 and named in _line(f"{title(passage)} {passage.text}")


@lru_cache(maxsize=65536)
def _line(text: str) -> str:
    return f" {' '.join(words(text))} "
