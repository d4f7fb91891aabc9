"""Mutations of a tree, in the order in which they are worth a test run.

The order is cost of the slip first, then suspicion of the line: within a cost, lines take turns, so
that no line uses up the runs of the others. Mutations that come to the same syntax tree as another,
or as the original, are left out, and so is what does not parse.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from operator import itemgetter

from nemoflows.coding.mutation import expressions, statements
from nemoflows.coding.mutation.sources import Source
from nemoflows.coding.types import Suspect
from nemoflows.sandbox.trees import Tree

SUSPICION_WEIGHT = 1.5
"""What a line that no failing test ran costs more than one that only failing tests ran.

Source: chosen by reading; about the distance between the commonest slips and the rarer ones.
"""
TURN_COST = 0.15
"""What each further mutation of one line costs more, so that lines take turns."""
N_PAIRED = 24
"""Best single mutations of which pairs are tried when the single ones are used up."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one file."""

    path: str
    line: int
    start: int
    end: int
    text: str
    cost: float


def mutations(tree: Tree, suspects: Sequence[Suspect]) -> list[Mutation]:
    """Return the mutations of every function that a suspicious line stands in, cheapest first."""
    scores: dict[str, dict[int, float]] = {}
    for suspect in suspects:
        scores.setdefault(suspect.path, {})[suspect.line] = suspect.score
    found = [m for path, lines in scores.items() for m in _of_file(tree, path, lines)]
    turns: Counter[tuple[str, int]] = Counter()
    ordered: list[tuple[float, Mutation]] = []
    for mutation in sorted(found, key=lambda m: (m.cost, m.path, m.start, m.text)):
        turns[mutation.path, mutation.line] += 1
        turn = turns[mutation.path, mutation.line]
        ordered.append((mutation.cost + TURN_COST * turn, mutation))
    return [mutation for _, mutation in sorted(ordered, key=itemgetter(0))]


def candidates(tree: Tree, suspects: Sequence[Suspect]) -> Iterator[tuple[Tree, list[Mutation]]]:
    """Return mutated trees, each once: single mutations first, then pairs of the best."""
    seen = {path: {shape(text)} for path in {s.path for s in suspects} if (text := tree.text(path))}
    whole: set[str] = {tree.hash}
    singles = []
    for mutation in mutations(tree, suspects):
        mutated = applied(tree, [mutation])
        if mutated is None or not _is_new(mutated, mutation.path, seen):
            continue
        singles.append(mutation)
        yield _tidied(tree, mutated, [mutation])
    for first, second in combinations(singles[:N_PAIRED], 2):
        mutated = applied(tree, [first, second])
        if mutated is not None and mutated.hash not in whole:
            whole.add(mutated.hash)
            yield _tidied(tree, mutated, [first, second])


def applied(tree: Tree, changes: Sequence[Mutation]) -> Tree | None:
    """Return the tree with mutations applied; None where they overlap or do not parse."""
    texts: dict[str, bytes] = {}
    last: dict[str, int] = {}
    for change in sorted(changes, key=lambda m: -m.start):
        if change.end > last.get(change.path, change.end):
            return None
        last[change.path] = change.start
        known = texts.get(change.path)
        data = (tree.text(change.path) or "").encode() if known is None else known
        texts[change.path] = data[: change.start] + change.text.encode() + data[change.end :]
    decoded = {path: data.decode() for path, data in texts.items()}
    if not all(shape(text) for text in decoded.values()):
        return None
    with suppress(UnicodeEncodeError):  # a letter in the other case that the encoding lacks
        return tree.changed(decoded)
    return None


def _tidied(tree: Tree, mutated: Tree, changes: Sequence[Mutation]) -> tuple[Tree, list[Mutation]]:
    """Leave out brackets around new text that change nothing."""
    kept = list(changes)
    for n, change in enumerate(changes):
        if not (change.text.startswith("(") and change.text.endswith(")")):
            continue
        plainer = [*kept[:n], replace(change, text=change.text[1:-1]), *kept[n + 1 :]]
        plain = applied(tree, plainer)
        if plain is not None and _shape_of(plain, change.path) == _shape_of(mutated, change.path):
            mutated, kept = plain, plainer
    return mutated, kept


def _of_file(tree: Tree, path: str, scores: Mapping[int, float]) -> Iterator[Mutation]:
    text = tree.text(path)
    if text is None or not path.endswith(".py") or shape(text) is None:
        return
    if "\r" in text.replace("\r\n", ""):  # ends a line for Python, and for nobody else
        return
    source = Source(path, text)
    wanted = {
        source.function_of(n) for n in ast.walk(source.tree) if getattr(n, "lineno", 0) in scores
    }
    for node in ast.walk(source.tree):
        line = getattr(node, "lineno", 0)
        if not line or (source.function_of(node) not in wanted and node not in wanted):
            continue
        extra = SUSPICION_WEIGHT * (1.0 - scores.get(line, 0.0))
        if isinstance(node, ast.expr):
            start, end = source.span(node)
            for new, cost in expressions.mutations(source, node):
                yield Mutation(path, line, start, end, new, cost + extra)
        for start, end, new, cost in statements.mutations(source, node):
            yield Mutation(path, line, start, end, new, cost + extra)


def _is_new(tree: Tree, path: str, seen: dict[str, set[str | None]]) -> bool:
    shape = _shape_of(tree, path)
    if shape is None or shape in seen.setdefault(path, set()):
        return False
    seen[path].add(shape)
    return True


def _shape_of(tree: Tree, path: str) -> str | None:
    return shape(tree.text(path) or "")


def shape(text: str | None) -> str | None:
    """Return a source's syntax tree as text; None where it does not compile."""
    if text is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(tree, "mutated", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return ast.dump(tree)
