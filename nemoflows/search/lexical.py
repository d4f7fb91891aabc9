"""The lexical leg: BM25 over a passage's terms, its heading's among them.

A segment keeps which passage has which term how often; what depends on the whole (how many
passages have a term, how long a passage is on average) is summed at the query. So scores do not
depend on the segments that an index happens to consist of. bm25s, which scores at the build, had
to score every passage anew for each file that came.
"""

from __future__ import annotations

import math
import mmap
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

K1 = 1.5
B = 0.75
"""BM25's usual parameters: on cranfield nDCG@10 was .378 at k1 .9, .387 at 1.5, and .367, .375,
.382, .382 for b of .4, .6, .75, .9.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), section 3.4; the
variant is Lucene's.
"""

Rows = NDArray[np.intp]
Scores = NDArray[np.float64]

WORDS, TERMS, POSTINGS = "terms.txt", "terms.npy", "postings.npy"


class Part(Protocol):
    """Some of the passages."""

    lengths: NDArray[np.int64]
    """In terms, by row."""

    def postings(self, term: bytes) -> tuple[Rows, Scores]:
        """Return the rows of the passages that count and have a term, and how often each has it."""


class Writer:
    """Collect passages' terms as numbers, then write the postings."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._terms = array("i")
        self.lengths = array("q")

    @property
    def n_terms(self) -> int:
        """Return how many terms there are so far, repeated ones counted each time."""
        return len(self._terms)

    def add(self, terms: list[str]) -> None:
        """Add the next passage."""
        numbers = self._numbers
        self._terms.extend([numbers.setdefault(term, len(numbers)) for term in terms])
        self.lengths.append(len(terms))

    def save(self, folder: Path) -> None:
        """Write terms in the order of their bytes, and the passages of each."""
        words = sorted((encoded(term), number) for term, number in self._numbers.items())
        place = np.empty(len(words), np.int64)
        place[[number for _, number in words]] = np.arange(len(words))
        n_rows = max(1, len(self.lengths))
        pairs = place[np.frombuffer(self._terms, np.int32)] if words else place
        pairs *= n_rows
        pairs += np.repeat(np.arange(len(self.lengths)), np.frombuffer(self.lengths, np.int64))
        pairs, counts = np.unique(pairs, return_counts=True)
        starts = np.searchsorted(pairs, np.arange(len(words) + 1) * n_rows)
        ends = np.cumsum([0, *(len(word) for word, _ in words)])
        (folder / WORDS).write_bytes(b"".join(word for word, _ in words))
        np.save(folder / TERMS, np.stack([ends, starts], axis=1).astype(np.int64))
        np.save(folder / POSTINGS, np.stack([pairs % n_rows, counts], axis=1).astype(np.int32))


def encoded(term: str) -> bytes:
    """Return a term's bytes, whatever characters are in it."""
    return term.encode("utf-8", "surrogatepass")


class Postings:
    """The saved arrays: a query reads the columns of its own terms."""

    def __init__(
        self, words: bytes | mmap.mmap, terms: NDArray[np.int64], postings: NDArray[np.int32]
    ) -> None:
        self._words, self._terms, self._postings = words, terms, postings

    def of(self, term: bytes) -> NDArray[np.int32]:
        """Return rows and counts, of shape (passages, 2)."""
        at = bisect_left(range(len(self._terms) - 1), term, key=self._word)
        if at == len(self._terms) - 1 or self._word(at) != term:
            return self._postings[:0]
        return self._postings[self._terms[at, 1] : self._terms[at + 1, 1]]

    def _word(self, at: int) -> bytes:
        return bytes(self._words[self._terms[at, 0] : self._terms[at + 1, 0]])


def score(
    parts: Sequence[Part], terms: Sequence[str], *, n_passages: int, n_terms: int
) -> list[Scores | None]:
    """Return the scores of each part's passages by row; None where none shares a term."""
    scores: list[Scores | None] = [None] * len(parts)
    mean = n_terms / max(1, n_passages)
    for term, weight in Counter(terms).items():
        found = [part.postings(encoded(term)) for part in parts]
        n_with = sum(len(rows) for rows, _ in found)
        idf = math.log(1 + (n_passages - n_with + 0.5) / (n_with + 0.5))
        for number, (part, (rows, counts)) in enumerate(zip(parts, found, strict=True)):
            if not len(rows):
                continue
            own = scores[number]
            if own is None:
                own = scores[number] = np.zeros(len(part.lengths))
            saturation = K1 * (1 - B + B * part.lengths[rows] / mean)
            own[rows] += weight * idf * counts / (counts + saturation)
    return scores


def top(scores: Scores, depth: int) -> tuple[Rows, Scores]:
    """Return the places and values of the `depth` largest positive scores, ties by place."""
    # Selecting among the positive ones only: np.partition is slow on mostly equal values (20 ms
    # against 0.2 ms at 182,000 passages).
    places = np.flatnonzero(scores > 0)
    values = scores[places]
    if len(places) > depth:
        least = np.partition(values, len(values) - depth)[len(values) - depth]
        places, values = places[values >= least], values[values >= least]
    order = np.argsort(-values, kind="stable")[:depth]
    return places[order], values[order]
