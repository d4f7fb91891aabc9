"""An index that grew answers as one that was built at once, and costs what changed."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nemoflows.cli.main import main
from nemoflows.errors import BadInput
from nemoflows.search import build_index, layout, merge, open_index, prune
from nemoflows.storage.opening import open_store
from nemoflows.types import Index
from tests.support import run_command
from tests.test_search import embed

WORDS = ("eel", "cod", "puffin", "harbour", "tide", "net", "Eel,", "(cod)", "sea")
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), max_size=3
).map("\n\n# Heading\n\n".join)
NAMES = st.sampled_from(["a.txt", "b/c.md", "b.txt", "z.md", "t.jsonl", "b/d.txt"])
STATES = st.lists(st.dictionaries(NAMES, TEXTS, min_size=1), min_size=2, max_size=5)


def put(corpus: Path, pages: dict[str, str]) -> None:
    """Make the folder hold these files alone."""
    for path in [path for path in corpus.rglob("*") if path.is_file()]:
        if path.relative_to(corpus).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (json.dumps({"text": row}) + "\n" for row in text.split("\n\n"))
        content = "".join(rows) if name.endswith(".jsonl") else text
        if not path.exists() or path.read_text() != content:
            path.write_text(content)


def told(index: Index, *, dense: bool) -> list[object]:
    """Return all that an index tells."""
    search = open_index(index)
    queries = ["eel", "cod sea", "eel eel cod puffin tide net harbour", "heading a", "nothing"]
    found: list[object] = [index.n_documents, index.n_passages, search.n_bytes, search.passages()]
    for query in queries:
        found.append([search.search(query, k) for k in (1, 3, 50)])
        if dense:
            vector = embed([query])
            found.append([(p.id, p.also) for p in search.search(query, 50, vector=vector)])
    names = dict.fromkeys(passage.document for passage in search.passages())
    return [*found, [(name, search.document_text(name)) for name in names]]


def segments(index: Index) -> list[str]:
    manifest: dict[str, list[str]] = json.loads((Path(index.uri) / "manifest.json").read_bytes())
    return manifest["segments"]


@pytest.mark.parametrize("dense", [False, True])
def test_how_an_index_grew_does_not_show(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MAX_TERMS", 10)
    vectors: dict[str, Any] = {"embed": embed, "embedder": "words"} if dense else {}
    n_segments: set[int] = set()

    @settings(max_examples=10 if dense else 40, deadline=None)
    @given(STATES)
    def check(states: list[dict[str, str]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus"
            for number, pages in enumerate(states):
                put(corpus, {"always.txt": "The sea is always there.", **pages})
                grown = build_index(str(corpus), f"{folder}/root", **vectors)
                clean = build_index(str(corpus), f"{folder}/{number}", **vectors)
                assert grown.corpus_hash == clean.corpus_hash
                assert told(grown, dense=dense) == told(clean, dense=dense)
                n_segments.add(len(segments(grown)))

    check()
    assert max(n_segments) > 2


def test_random_changes_of_a_larger_corpus_do_not_show(tmp_path: Path) -> None:
    chance = np.random.default_rng(7)

    def text() -> str:
        lines = [" ".join(f"w{n}" for n in chance.zipf(1.3, 12) % 90) for _ in range(3)]
        return "\n\n".join(lines[: chance.integers(1, 4)])

    pages = {f"{n:03}.txt": text() for n in range(120)}
    sizes = []
    for step in range(25):
        for name in chance.choice(sorted(pages), 2):
            pages[str(name)] = pages[str(chance.choice(sorted(pages)))] if step % 2 else text()
        pages[f"new{step}.txt"] = text()
        pages.pop(str(chance.choice(sorted(pages))))
        put(tmp_path / "corpus", pages)
        grown = build_index(str(tmp_path / "corpus"), str(tmp_path / "root"))
        sizes.append(len(segments(grown)))
    clean = open_index(build_index(str(tmp_path / "corpus"), str(tmp_path / "clean")))
    search = open_index(grown)
    assert 1 < max(sizes) < 8
    for query in [" ".join(f"w{n}" for n in chance.integers(0, 90, 4)) for _ in range(50)]:
        assert search.search(query, 10) == clean.search(query, 10)
    assert search.passages() == clean.passages()


def test_a_file_that_came_costs_that_file(tmp_path: Path) -> None:
    pages = {f"{n:04}.txt": f"Document {n} is about zq{n}." for n in range(400)}
    merged: list[int] = []

    def built() -> Index:
        put(tmp_path / "corpus", pages)
        merged.append(0)

        def count(stage: str, done: int, total: int) -> None:
            del done, total
            merged[-1] += stage == "merge"

        return build_index(str(tmp_path / "corpus"), str(tmp_path / "root"), progress=count)

    first = built()
    for n in range(30):
        pages[f"new{n}.txt"] = f"New document {n}."
        index = built()
    del pages["0007.txt"]
    gone = built()
    assert (merged[0], merged[1], merged[-1]) == (400, 1, 0)
    # Each was written anew a few times; the 400 never were.
    assert sum(merged[1:]) < 30 * 4
    assert segments(first)[0] in segments(gone)
    assert len(segments(index)) < 6
    assert open_index(gone).search("zq7") == []
    assert open_index(first).search("zq7")
    with pytest.raises(BadInput, match=r"no document '0007\.txt' among its 429"):
        open_index(gone).document_text("0007.txt")


def test_a_segment_that_is_half_gone_is_written_anew(tmp_path: Path) -> None:
    pages = {f"{n}.txt": f"Document {n}." for n in range(20)}
    put(tmp_path / "corpus", pages)
    first = build_index(str(tmp_path / "corpus"), str(tmp_path / "root"))
    for n in range(11):
        del pages[f"{n}.txt"]
    put(tmp_path / "corpus", pages)
    second = build_index(str(tmp_path / "corpus"), str(tmp_path / "root"))
    assert set(segments(first)).isdisjoint(segments(second))
    assert second.n_documents == 9


def old(root: str, days: float = 2.0) -> None:
    """Let all that lies under a root be that old."""
    then = time.time() - days * 86_400
    for path in Path(root).rglob("*"):
        os.utime(path, (then, then))


def grown(tmp_path: Path, n: int = 3) -> tuple[str, list[Index]]:
    """Return a root, and one index after another of a corpus whose every file changed."""
    corpus, root = tmp_path / "corpus", str(tmp_path / "root")
    indexes = []
    for step in range(n):
        put(corpus, {f"{k}.txt": f"Step {step} of document {k}." for k in range(5)})
        indexes.append(build_index(str(corpus), root))
    return root, indexes


def n_bytes(root: str) -> int:
    return sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())


def test_what_nothing_refers_to_is_removed_once_it_is_old(tmp_path: Path) -> None:
    root, indexes = grown(tmp_path)
    before, first = n_bytes(root), prune.prune(open_store(root))
    assert (first.n_bytes, n_bytes(root)) == (0, before)
    old(root)
    would = prune.prune(open_store(root), dry_run=True)
    assert n_bytes(root) == before
    done = prune.prune(open_store(root))
    assert done == would
    assert done.counts == {
        "catalogues of corpora": 0, "indexes": 2, "segments": 2, "files of fragments": 10
    }  # fmt: skip
    assert n_bytes(root) == before - done.n_bytes
    assert open_index(indexes[-1]).search("step")
    for index in indexes[:-1]:
        with pytest.raises(BadInput, match="no whole index"):
            open_index(index)
    again = build_index(indexes[-1].corpus, root)
    assert (again.uri, again.n_indexed) == (indexes[-1].uri, 0)
    assert not [path for path in Path(root).rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_what_is_read_stays_and_so_does_all_that_it_needs(tmp_path: Path) -> None:
    root, indexes = grown(tmp_path)
    old(root)
    reader = open_index(indexes[0])
    before = reader.search("step", 9)
    assert prune.prune(open_store(root)).counts["indexes"] == 1
    assert reader.search("step", 9) == open_index(indexes[0]).search("step", 9) == before


def test_a_corpus_that_is_gone_needs_no_index(tmp_path: Path) -> None:
    root, _ = grown(tmp_path, 1)
    (tmp_path / "corpus").rename(tmp_path / "elsewhere")
    old(root)
    prune.prune(open_store(root))
    assert n_bytes(root) == 0
    index = build_index(str(tmp_path / "elsewhere"), root)
    assert index.n_indexed == 5


def test_a_removed_fragment_is_made_again_where_it_is_needed(tmp_path: Path) -> None:
    root, indexes = grown(tmp_path)
    for path in Path(root).glob("fragments/*/*"):
        path.unlink()
    put(tmp_path / "corpus", {"new.txt": "New.", **{f"{k}.txt": "Step 0 of it." for k in (7, 8)}})
    index = build_index(indexes[0].corpus, root)
    assert (index.n_documents, index.n_passages) == (3, 2)


def test_builds_prune_by_themselves_where_indexes_are_many(tmp_path: Path) -> None:
    root, _ = grown(tmp_path, prune.MANY)
    old(root)
    put(tmp_path / "corpus", {"x.txt": "Another."})
    build_index(str(tmp_path / "corpus"), root)
    assert len(list(Path(root).glob("indexes/[!.]*"))) == 2  # it, and the one that it began with


def test_the_command_tells_what_it_would_remove(tmp_path: Path) -> None:
    root, _ = grown(tmp_path)
    young = run_command("nemoflows", "index", "--root", root, "prune", cwd=tmp_path)
    assert "0 indexes" in young.stdout
    command = ["index", "--root", root, "prune"]
    would = CliRunner().invoke(main, [*command, "--older-than-days", "0", "--dry-run"])
    assert "2 indexes, 2 segments" in would.output
    assert "would be removed" in would.output
    done = CliRunner().invoke(main, [*command, "--older-than-days", "0"])
    assert done.output == would.output.replace("would be removed", "were removed")
    assert len(list(Path(root).glob("indexes/[!.]*"))) == 1


def test_an_object_store_is_pruned_too(s3: str, tmp_path: Path) -> None:
    for step in range(2):
        put(tmp_path / "corpus", {"a.txt": f"Step {step}."})
        index = build_index(str(tmp_path / "corpus"), f"{s3}/base")
    store = open_store(f"{s3}/base", bulk=True)
    assert prune.prune(store).n_bytes == 0
    done = prune.prune(store, unused_s=-60)
    assert done.counts["indexes"] == 1
    assert open_index(index, cache=str(tmp_path / "cache")).search("step")
    assert {layout.FOLDER, "segments"} <= {name.split("/")[0] for name in store.names("")}
