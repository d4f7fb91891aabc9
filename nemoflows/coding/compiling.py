"""Whether sources compile, found out in a process of its own: a parser can be made to crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

LIMIT_S, LIMIT_BYTES = 20, 2 << 30
"""Of CPU time and of memory, for all sources of one reply."""
_CHILD = """
import json, resource, sys, warnings
limit_s, limit_bytes, sources = json.load(sys.stdin)
for kind, limit in (("CPU", limit_s), ("AS", limit_bytes), ("CORE", 0)):
    number = getattr(resource, f"RLIMIT_{kind}")
    hard = resource.getrlimit(number)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(number, (limit, limit))
warnings.simplefilter("ignore")
for path, text in sources:
    try:
        compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        print(json.dumps(str(error) or type(error).__name__), flush=True)
    else:
        print("null", flush=True)
"""


class Compiler:
    """Finds out what is wrong with sources, with each of them once."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._told: dict[tuple[str, str], str | None] = {}

    def problems(self, sources: Sequence[tuple[str, str]]) -> list[str | None]:
        """Return what is wrong with each source, by path and text; None where nothing is."""
        new = [source for source in dict.fromkeys(sources) if source not in self._told]
        self._told.update(zip(new, problems(new), strict=True))
        return [self._told[source] for source in sources]


def problems(sources: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return what is wrong with each source, by path and text; None where nothing is."""
    if not sources:
        return []
    try:
        done = subprocess.run(  # noqa: S603  (our own words)
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([LIMIT_S, LIMIT_BYTES, sources]).encode(),
            capture_output=True, check=False, env={}, timeout=3 * LIMIT_S,
        )  # fmt: skip
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired:
        lines = []
    told: list[str | None] = [json.loads(line) for line in lines]
    missing = f"compiling it takes more than {LIMIT_S} s or {LIMIT_BYTES >> 30} GiB"
    return [*told, *[missing] * (len(sources) - len(told))]
