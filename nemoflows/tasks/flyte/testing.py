"""What a process keeps to run tests with: its sandboxes, and the runs that are remembered."""

from __future__ import annotations

import os
from functools import cache

from nemoflows.coding.test_runs import TestRuns
from nemoflows.tasks.flyte.session import session


def test_runs() -> TestRuns:
    """Return the process's test runs; they end with it."""
    return _at(session().door.journal.root)


@cache
def _at(root: str) -> TestRuns:
    return TestRuns(root)


def n_cores() -> int:
    """Return how many test runs go on at once."""
    return len(os.sched_getaffinity(0))
