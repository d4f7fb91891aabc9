"""Where the fault may be: from what failing and passing tests ran, and from their traces.

Source: Ochiai's coefficient, ef / sqrt((ef + nf) * (ef + ep)): Abreu, Zoeteweij and van Gemund, On
the Accuracy of Spectrum-based Fault Localization (TAIC PART 2007).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from nemoflows.coding.protected import is_test, runs_tests
from nemoflows.coding.runs import Ran
from nemoflows.coding.types import Suspect
from nemoflows.sandbox.trees import Tree

MAX_SUSPECTS = 400
TRACE_SCORE = 0.5
"""Of a line that a trace names and no test's run tells of: a module's own lines, say.

Source: chosen by reading, not calibrated.
"""
_FRAME = re.compile(r"^(?P<path>[^\s:][^:\n]*\.py):(?P<line>\d+):", re.MULTILINE)


def suspects(ran: Ran, *, tree: Tree, target: Sequence[str]) -> list[Suspect]:
    """Return the most suspicious lines outside tests, best first, at most `MAX_SUSPECTS`."""
    found = {**_traced(ran, tree, target), **_by_spectrum(ran, target)}
    named = _traced(ran, tree, target)
    return sorted(
        found.values(), key=lambda s: (-s.score, (s.path, s.line) not in named, s.path, s.line)
    )[:MAX_SUSPECTS]


def _by_spectrum(ran: Ran, target: Sequence[str]) -> dict[tuple[str, int], Suspect]:
    failing = {r.test for r in ran.results if r.test in set(target)}
    passing = {r.test for r in ran.results if r.outcome == "passed"}
    n_failing = len([test for test in failing if test in ran.lines])
    failed, passed = _counted(ran.lines, failing), _counted(ran.lines, passing)
    return {
        (path, line): Suspect(
            path=path,
            line=line,
            score=round(n / math.sqrt(n_failing * (n + passed[path, line])), 4),
            why=f"run by {n} of {n_failing} failing tests and {passed[path, line]} passing ones",
        )
        for (path, line), n in failed.items()
    }


def _counted(
    lines: Mapping[str, Mapping[str, Sequence[int]]], tests: Iterable[str]
) -> Counter[tuple[str, int]]:
    return Counter(
        (path, line)
        for test in tests
        for path, numbers in lines.get(test, {}).items()
        if not is_test(path) and not runs_tests(path)
        for line in numbers
    )


def _traced(ran: Ran, tree: Tree, target: Sequence[str]) -> dict[tuple[str, int], Suspect]:
    """Return the lines of the repository that the failing tests' traces name."""
    texts = [r.text for r in [*ran.results, *ran.broken] if r.test in set(target)]
    found = {}
    for match in (match for text in texts for match in _FRAME.finditer(text)):
        path, line = match["path"], int(match["line"])
        if path in tree.files and not is_test(path):
            why = "named in the trace of a failing test"
            found[path, line] = Suspect(path=path, line=line, score=TRACE_SCORE, why=why)
    return found
