from __future__ import annotations

import pytest

from nemoflows.coding import compiling
from nemoflows.coding.compiling import Compiler, problems


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "[" * 90 + "]" * 89, "-" * 1_000_000 + "1", "x = " + "9" * 10_000, "a\0b",
     "x" + ".x" * 300_000, "not " * 300_000 + "1", "\ud800", "def f(:", "{" * 150 + "x",
     "x = " + "1+" * 300_000 + "1", "f(" * 99, "x = f'" + "{" * 500, "lambda: " * 50_000 + "1"],
)  # fmt: skip
def test_whatever_a_source_holds_is_told(text: str) -> None:
    fine, broken, after = problems([("a.py", "x = 1\n"), ("b.py", text), ("c.py", "y = 1\n")])
    assert fine is None
    assert broken
    assert after is None or "more than" in after


def test_a_source_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_CHILD", "while True: pass")
    monkeypatch.setattr(compiling, "LIMIT_S", 0.3)
    assert problems([("a.py", "x = 1\n")]) == ["compiling it takes more than 0.3 s or 2 GiB"]


def test_a_source_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def counting(sources: list[tuple[str, str]]) -> list[str | None]:
        counted.append(len(sources))
        return problems(sources)

    monkeypatch.setattr(compiling, "problems", counting)
    compiler = Compiler()
    fine, broken = ("a.py", "x = 1\n"), ("b.py", "x =\n")
    assert compiler.problems([fine])[0] is None
    assert [bool(told) for told in compiler.problems([broken, fine, broken])] == [True, False, True]
    assert counted == [1, 1]
