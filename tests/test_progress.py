"""Progress: a bar for a person, few log lines for a pod."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from nemoflows import progress as module
from nemoflows.progress import progress


def test_a_pod_gets_a_line_at_the_end_of_a_stage(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nemoflows"), progress("index") as tell:
        for done in range(1, 1_001):
            tell(done, 1_000, "read")
    assert caplog.messages == ["index (read): 1000 of 1000"]


def test_a_slow_stage_says_where_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "nemoflows"), progress("research") as tell:
        tell(1, 3)
        tell(2, 3)
    assert caplog.messages == ["research: 1 of 3", "research: 2 of 3"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("index") as tell:
        tell(3, 4, "read")
    assert "index (read)" in terminal.getvalue()
