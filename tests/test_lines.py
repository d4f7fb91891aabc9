"""Edits by the numbers of shown lines, and whole functions: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from nemoflows.coding.compiling import Compiler
from nemoflows.coding.lines import LineEdit, as_edits, numbered, with_function
from nemoflows.errors import BadReply

TEXT = "import math\n\n\ndef area(r):\n    a = r * r\n    return math.pi + a\n"
ALL = {"a.py": set(range(1, 8))}


def line(first: int, last: int, replace: str, path: str = "a.py") -> LineEdit:
    return LineEdit(path=path, first=first, last=last, replace=replace)


def written(*edits: LineEdit, text: str = TEXT) -> str:
    [edit] = as_edits(edits, {"a.py": text}, ALL, Compiler())
    assert edit.search == text, "one edit of the whole file, which stands there once"
    return edit.replace


@pytest.mark.parametrize(
    "replace",
    [
        "    return math.pi * a",
        "    return math.pi * a\n",
        "return math.pi * a",
        "6|     return math.pi * a",
        "```python\n    return math.pi * a\n```",
    ],
)
def test_lines_are_replaced_however_they_are_written(replace: str) -> None:
    assert written(line(6, 6, replace)) == TEXT.replace("+ a", "* a")


def test_edits_of_one_file_count_lines_as_they_were_shown() -> None:
    found = written(line(1, 1, "import cmath as math\nimport os"), line(5, 6, "    return r"))
    assert found == "import cmath as math\nimport os\n\n\ndef area(r):\n    return r\n"


def test_lines_are_taken_out_and_line_ends_are_kept() -> None:
    assert written(line(5, 5, "")) == TEXT.replace("    a = r * r\n", "")
    dos = TEXT.replace("\n", "\r\n")
    assert written(line(6, 6, "    return a"), text=dos).endswith("\r\n    return a\r\n")


def test_a_file_that_is_not_there_is_new() -> None:
    [edit] = as_edits([line(0, 0, "x = 1", "new.py")], {}, {}, Compiler())
    assert (edit.search, edit.replace) == ("", "x = 1")


@pytest.mark.parametrize("edits", [[line(0, 0, "x")], [line(9, 9, "x")], [line(4, 99, "x")]])
def test_lines_that_were_not_shown_are_refused_with_those_that_were(edits: list[LineEdit]) -> None:
    with pytest.raises(BadReply, match=r"not shown; it has lines 1 to 3, 5 to 7\."):
        as_edits(edits, {"a.py": TEXT}, {"a.py": {1, 2, 3, 5, 6, 7}}, Compiler())


def test_two_edits_of_one_line_are_refused() -> None:
    with pytest.raises(BadReply, match="both of line 5"):
        as_edits([line(4, 5, "x"), line(5, 6, "y")], {"a.py": TEXT}, ALL, Compiler())


def test_shown_lines_keep_their_numbers_over_a_gap() -> None:
    assert numbered(["a", "b", "c", "d"], {0, 3}, "…") == "1| a\n…\n4| d"


def test_a_function_takes_the_place_of_its_namesake() -> None:
    source = "import math\n\n@staticmethod\ndef f(x):\n    return 1\n\n\ndef g():\n    return 2\n"
    found = with_function(
        "s.py", source, "```\ndef f(x):\n    return math.e\n```", Compiler()
    ).replace
    assert found == ("import math\n\ndef f(x):\n    return math.e\n\n\ndef g():\n    return 2\n")
    assert with_function("s.py", "", "def f():\n    return 1", Compiler()).search == ""


@pytest.mark.parametrize("text", ["def h():\n    pass", "def f(:", "x = 1"])
def test_a_function_of_another_name_is_sent_back(text: str) -> None:
    with pytest.raises(BadReply, match=r"must define f|does not compile"):
        with_function("s.py", "def f():\n    return 1\n", text, Compiler())


@pytest.mark.parametrize("text", ["from data import solution", "import a\nimport b", "# f"])
def test_imports_alone_are_no_function(text: str) -> None:
    with pytest.raises(BadReply, match="must define the function"):
        with_function("s.py", "", text, Compiler())
    assert "f = lambda: 1" in with_function("s.py", "", "f = lambda: 1", Compiler()).replace


@pytest.mark.parametrize("method", [
    "    def f(self, n: int) -> int:\n        return self.twice(n) + 1\n",
    "    @staticmethod\n    def f(n: int) -> int:\n        return 2 * n + 1\n",
    "    def f(n: int) -> int:\n        return 2 * n + 1\n",
    "    @classmethod\n    def f(cls, n: int) -> int:\n        return 2 * n + 1\n",
])  # fmt: skip
def test_a_function_may_come_as_a_method_of_a_class(method: str) -> None:
    written = f"class Solution:\n    def twice(self, n):\n        return 2 * n\n\n{method}"
    source = "def g(): ...\n\n\ndef f(n: int) -> int:\n    return n\n"
    made: dict[str, Any] = {}
    exec(with_function("s.py", source, written, Compiler()).replace, made)
    assert made["f"](4) == 9
    assert "g" in made


def test_a_method_of_another_name_is_no_function() -> None:
    with pytest.raises(BadReply, match="must define f"):
        with_function("s.py", "def f(): ...", "class A:\n    def h(self): ...", Compiler())
