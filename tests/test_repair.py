"""Repair without a model: mutations, their order, the search over them."""

from __future__ import annotations

import ast
import json
from functools import partial
from pathlib import Path

import pytest

from nemoflows.coding import functions, snapshots
from nemoflows.coding.mutation import mutate
from nemoflows.coding.mutation.search import Found, search
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import Baseline, Suspect
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from tests.coding import LENDING, task_of, with_runs
from tests.support import ROOT, run_command

SOURCE = """def spread(numbers, default=0):
    # Größe: comments and letters of any kind stay as they are
    if not numbers:
        return default
    low, high = numbers[0], numbers[0]
    for number in numbers[1:]:
        if number < low:
            low = number
        elif number < high:
            high = number
    return high - low
"""
TESTS = """def check(f):
    assert f([3, 1, 2]) == 2
    assert f([1, 5]) == 4
    assert f([]) == 0
    assert f([7]) == 0
check(spread)
"""


def suspects(tree: Tree) -> list[Suspect]:
    text = tree.text(functions.SOLUTION) or ""
    lines = range(1, text.count("\n") + 1)
    return [Suspect(path=functions.SOLUTION, line=n, score=1.0, why="") for n in lines]


def searched(tree: Tree, **more: int) -> tuple[Baseline, Found]:
    async def work(runs: TestRuns) -> tuple[Baseline, Found]:
        baseline = await baseline_of(task_of(tree), tree, runs)
        return baseline, await search(baseline, tree, runs, **more)

    return with_runs("", work)


def test_every_mutation_parses_is_new_and_touches_one_file() -> None:
    tree = functions.tree(SOURCE, TESTS)
    found = [mutated for mutated, _ in mutate.candidates(tree, suspects(tree))]
    shapes = {ast.dump(ast.parse(each.text(functions.SOLUTION) or "")) for each in found}
    singles = [m for _, m in mutate.candidates(tree, suspects(tree)) if len(m) == 1]
    assert len(singles) > 100
    assert len(shapes) >= len(singles)
    assert all(each.files[functions.TESTS] == tree.files[functions.TESTS] for each in found)
    assert all("Größe" in (each.text(functions.SOLUTION) or "") for each in found)


def test_the_order_is_the_same_every_time() -> None:
    tree = functions.tree(SOURCE, TESTS)
    once, again = mutate.mutations(tree, suspects(tree)), mutate.mutations(tree, suspects(tree))
    assert once == again


def test_a_slip_is_found_and_the_diff_is_one_line() -> None:
    tree = functions.tree(SOURCE, TESTS)
    baseline, found = searched(tree)
    assert len(baseline.target) == 2, "two of the four assertions show it"
    assert baseline.suspects[0].score == 1.0
    assert found.tree is not None
    assert trees.n_changed(trees.diff(tree, found.tree)) == 2
    assert "number > high" in (found.tree.text(functions.SOLUTION) or "")


def test_a_repair_has_no_brackets_that_change_nothing() -> None:
    for written, repaired in (
        ("return a - b", "return a + b"),
        ("return (a - b)", "return (a + b)"),
        ("return 1 * (a - b)", "return 1 * (a + b)"),
        ("return -(a - b) * -1", "return -(a + b) * -1"),
    ):
        tree = functions.tree(f"def add(a, b):\n    {written}\n", "assert add(2, 5) == 7")
        found = [
            each.text(functions.SOLUTION) for each, _ in mutate.candidates(tree, suspects(tree))
        ]
        assert f"def add(a, b):\n    {repaired}\n" in found


@pytest.mark.parametrize(
    ("head", "wrong", "right"),
    [
        ("flags, one", "flags |= one\n    return flags", "flags &= one\n    return flags"),
        ("n", "n <<= 1\n    return n", "n >>= 1\n    return n"),
        ("words", "return sorted(words)", "return sorted(words, key=len)"),
        ("words", "return [w for w in words]", "return [w for w in words if w]"),
        ("a, b", "return a == b", "return set(a) == set(b)"),
        ("a, b", "return a - b", "return abs(a - b)"),
        ("a, b", "d = a - b\n    return d", "d = max(0, a - b)\n    return d"),
        ("xs", "m = 0\n    for x in xs:\n        m = x\n    return m",
         "m = 0\n    for x in xs:\n        m = max(m, x)\n    return m"),
        ("xs", "return [2 * x for x in xs]", "return [2 * x for x in xs][1:]"),
        ("text, n", "return f(text)", "return f(text[n:])"),
        ("a, b", "return f(a, b)", "return f(a, b - a)"),
        ("x, y", "return x + y", "return (x + y) / 2"),
        ("c", "return c in 'aeiouy'", "return c in 'aeiou'"),
        ("words", "return ' '.join(words)", "return '-'.join(words)"),
        ("part, texts", "return [x for x in texts if x in part]",
         "return [x for x in texts if part in x]"),
        ("xs, ys", ("s = set()\n    for x in xs:\n        for y in ys:\n            s.add(x)\n"
         "    return s"),
         ("s = set()\n    for x in xs:\n        for y in ys:\n            if x == y:\n"
         "                s.add(x)\n    return s")),
        ("text", ("n, found = 0, []\n    while text:\n        n = cut(text)\n"
         "        found.append(n)\n    return found"),
         ("n, found = 0, []\n    while text:\n        n = cut(text)\n"
         "        found.append(n)\n    found.append(text)\n    return found")),
    ],
)  # fmt: skip
def test_what_was_forgotten_or_mistaken_is_among_the_mutations(
    head: str, wrong: str, right: str
) -> None:
    tree, fixed = (
        functions.tree(f"def g({head}):\n    {body}\n", "assert g(1) == 7")
        for body in (wrong, right)
    )
    found = [m.text(functions.SOLUTION) or "" for m, _ in mutate.candidates(tree, suspects(tree))]
    wanted = ast.dump(ast.parse(fixed.text(functions.SOLUTION) or ""))
    assert wanted in [ast.dump(ast.parse(text)) for text in found[:300]]


def test_as_many_at_once_find_the_same() -> None:
    tree = functions.tree(SOURCE, TESTS)
    (_, one), (_, two) = searched(tree, at_once=1), searched(tree, at_once=2)
    assert one.tree is not None
    assert two.tree is not None
    assert one.tree.hash == two.tree.hash
    assert two.n_runs == one.n_runs


def test_a_search_keeps_to_its_runs() -> None:
    tree = functions.tree("def f(x):\n    return x\n", "assert f(3) == 'no slip gives this'")
    _, found = searched(tree, max_runs=7)
    assert (found.tree, found.n_runs) == (None, 7)


def test_suspicion_falls_on_what_only_failing_tests_ran() -> None:
    tree = Tree(
        {
            "m.py": b"def f(x):\n    if x > 2:\n        return x - 1\n    return x\n",
            "test_m.py": (
                b"from m import f\n\ndef test_low(): assert f(1) == 1\n"
                b"def test_high(): assert f(5) == 6\n"
            ),
        }
    )
    baseline = with_runs("", lambda runs: baseline_of(task_of(tree), tree, runs))
    scores = {(s.path, s.line): s.score for s in baseline.suspects}
    assert scores["m.py", 3] == 1.0
    assert scores["m.py", 2] == pytest.approx(0.5**0.5, abs=1e-3)
    assert not any(path == "test_m.py" for path, _ in scores)


def test_each_assertion_becomes_a_test() -> None:
    tree = functions.tree(SOURCE, "import math\nassert spread([1]) == 0\nassert math.pi > 3")
    text = tree.text(functions.TESTS) or ""
    assert text.count("def test_") == 2
    for bad in ("x = 1", "def (", ""):
        with pytest.raises(BadInput):
            functions.tree(SOURCE, bad)


def test_tests_that_judge_nothing_are_refused() -> None:
    test = b"from m import f\n\ndef test_a(): assert f() == 1\ndef test_b(): assert f() == 2\n"
    source = Tree({"m.py": b"def f():\n    return 1\n"})
    tested = Tree({**source.files, "test_m.py": test})
    for tree, target, told in (
        (source, [], "no test was collected.*: write one that fails"),
        (tested, ["test_m.py::test_a"], "those that fail: test_m.py::test_b"),
        (tested, ["test_m.py::test_c"], "not among the 2 tests"),
    ):
        task = task_of(tree, target_tests=target)
        with pytest.raises(BadInput, match=told):
            with_runs("", partial(baseline_of, task, tree))
    with pytest.raises(BadInput, match=r"check\(NAME\)"):
        functions.tree(SOURCE, "def check(f):\n    assert f([]) == 0\n")


def test_make_demo_fix_gives_a_patch_that_git_takes(tmp_path: Path) -> None:
    issue = (LENDING / "ISSUE.md").read_text("utf-8")
    done = run_command(
        "pyflyte", "run", "workflows/coding.py", "fix_issue", "--repo", LENDING, "--issue", issue
    )
    assert done.returncode == 0, done.stdout
    assert "verified, builtin tier: 6 passed" in done.stdout
    assert "cost: $0 (no model was called)" in done.stdout
    diff = next((tmp_path / "home").rglob("*.diff"))
    import shutil
    import subprocess

    top = tmp_path / "repo"
    place = top / LENDING.relative_to(ROOT) if (ROOT / ".git").exists() else top
    shutil.copytree(LENDING, place)
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    subprocess.run(["git", "apply", str(diff)], cwd=place, check=True)
    assert "min(fine" in (place / "lending" / "loans.py").read_text("utf-8")


def test_the_benchmark_measures_what_it_says(tmp_path: Path) -> None:
    head, _, body = SOURCE.partition("\n")
    item = {
        "id": "x/0", "declaration": head + "\n", "buggy": body, "test": TESTS,
        "example_test": "assert spread([1, 5]) == 4",
    }  # fmt: skip
    (tmp_path / "tasks.jsonl").write_text(json.dumps(item))
    done = run_command("python", "-m", "benchmarks.repair", tmp_path)
    assert done.returncode == 0, done.stdout
    full, examples = [json.loads(line) for line in done.stdout.splitlines()]
    assert full["gate"] == "full"
    assert (full["correct"], full["plausible_but_wrong"]) == (1.0, 0.0)
    assert examples["functions"] == 1


@pytest.mark.parametrize("source", ["def f(x):\r    return x - 1\r", f"x = {'-' * 20_000}1\n"])
def test_a_source_that_cannot_be_mutated_is_passed_by(source: str) -> None:
    tree = Tree({"m.py": source.encode()})
    lines = [Suspect(path="m.py", line=n, score=1.0, why="") for n in (1, 2)]
    assert list(mutate.candidates(tree, lines)) == []


def test_a_damaged_snapshot_is_told(tmp_path: Path) -> None:
    kept = snapshots.keep(Tree({"a.py": b"x"}), name="a", root=str(tmp_path))
    archive = Path(kept.uri)
    for damaged in (archive.read_bytes()[:700], Tree({"a.py": b"y"}).archive()):
        archive.write_bytes(damaged)
        with pytest.raises(BadInput, match="damaged"):
            snapshots.opened(kept)
