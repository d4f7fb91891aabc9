"""Words and their stems: what search, gates and the tier without a model mean by a term."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache

VERSION = 2
"""Raised whenever the same text would give other terms: they are stored in indexes."""

STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before
    being below between both but by can could did do does doing done down during each either else
    ever every few for from further had has have having he her here hers herself him himself his
    how however i if in into is it its itself just let like many may me might more most much must
    my myself neither no nor not of off on once one only or other our ours ourselves out over own
    per same shall she should since so some such than that the their theirs them themselves then
    there therefore these they this those though through thus to too under until up upon us very
    via was we were what when where whether which while who whom whose why will with within
    without would yet you your yours yourself yourselves s t d ll m re ve
    """.split()  # noqa: SIM905 - readable as prose, not as 190 quoted strings
)
"""English function words: they tell questions apart from statements, not topics from topics."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """Return the words of `text` in order, case and accents folded.

    Underscores, punctuation and camelCase humps part words, so that `max_tokens`, `maxTokens`
    and "max tokens" are the same two. Capitals behind a digit part nothing: BM25S is bm25s.
    """
    return _WORD.findall(_fold(_HUMP.sub(" ", text)))


def terms(text: str) -> list[str]:
    """Return what the search indexes of `text`: its words, stemmed, without stop words."""
    return [_stem(word) for word in words(text) if word not in STOP_WORDS]


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Compatibility letters have a lower case only once they are decomposed, and the other way.
    marks = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in marks if not unicodedata.combining(character))


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer()(word)


@cache
def _stemmer() -> Callable[[str], str]:
    from Stemmer import Stemmer

    # Its own cache is off: it is not safe where threads share a stemmer, and `_stem` has one.
    stem: Callable[[str], str] = Stemmer("english", 0).stemWord
    return stem
