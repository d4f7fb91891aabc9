from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from nemoflows.errors import BadInput, BadReply, CorpusError
from nemoflows.language import terms as words_of_text
from nemoflows.search import SearchIndex, build_index, fragments, open_index
from nemoflows.search.lexical import top
from nemoflows.storage.opening import open_store
from nemoflows.types import Index

PAGES = {
    "birds.md": "# Birds\n\nThe puffin nests in burrows.\n\n## Diet\n\nPuffins eat sand eels.\n",
    "fish.txt": "Sand eels live in sandy sea beds.\r\n\r\nThey hide from puffins and cod.",
    "trade.txt": "Cod was dried and sold across the sea.",
    "code/shop.py": 'def sell_fish(kg):\n    """Sell fish by weight."""\n    return kg\n',
    "rows.jsonl": '{"title": "Herring", "text": "A silver fish."}\n{"title": "Eel", "text": "!"}\n',
}


def embed(texts: list[str]) -> NDArray[np.float32]:
    """Hash words into a few dimensions: a real embedding of sorts, the same in every process."""
    vectors = np.full((len(texts), 16), 0.01, np.float32)
    for row, page in enumerate(texts):
        for word in page.lower().split():
            vectors[row, hashlib.sha256(word.encode()).digest()[0] % 16] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def write(folder: Path, pages: dict[str, str]) -> str:
    for name, page in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(page.encode())
    return str(folder)


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return write(tmp_path / "corpus", PAGES)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


def found(index: Index, query: str, k: int = 3) -> list[str]:
    return [passage.document for passage in open_index(index).search(query, k)]


def documents(search: SearchIndex) -> list[str]:
    return list(dict.fromkeys(passage.document for passage in search.passages()))


def test_the_passage_that_shares_the_most_telling_words_comes_first(corpus: str, root: str) -> None:
    index = build_index(corpus, root)
    assert (index.n_documents, index.n_indexed, index.n_skipped) == (6, 6, 0)
    (best, *_) = open_index(index.uri).search("What do puffins eat?")
    assert (best.document, best.heading) == ("birds.md", "Birds > Diet")
    assert best.text == "## Diet\n\nPuffins eat sand eels."
    assert found(index, "herring")[0] == "rows.jsonl#0"
    assert found(index, "sellFish")[0] == "code/shop.py"


def test_every_offset_is_of_the_file_as_it_lies_there(corpus: str, root: str) -> None:
    search = open_index(build_index(corpus, root))
    for passage in search.search("sea puffins cod fish eels sell", 20):
        assert search.document_text(passage.document)[passage.start : passage.end] == passage.text
        assert passage.id == f"{passage.document}:{passage.start}-{passage.end}"
        if "#" not in passage.document:
            with (Path(corpus) / passage.document).open(encoding="utf-8", newline="") as file:
                assert file.read()[passage.start : passage.end] == passage.text


def test_scores_fall_and_k_bounds_them(corpus: str, root: str) -> None:
    search = open_index(build_index(corpus, root))
    passages = search.search("sand eels and puffins", 50)
    assert all(above.score >= below.score > 0 for above, below in pairwise(passages))
    assert search.search("sand eels and puffins", 2) == passages[:2]


@pytest.mark.parametrize("query", ["", "the of and", "zyzzyva", "🜁"])
def test_a_query_that_shares_no_term_finds_nothing(corpus: str, root: str, query: str) -> None:
    assert open_index(build_index(corpus, root)).search(query) == []


def test_documents_are_listed_by_file_and_row(corpus: str, root: str) -> None:
    names = documents(open_index(build_index(corpus, root)))
    assert names == [
        "birds.md",
        "code/shop.py",
        "fish.txt",
        "rows.jsonl#0",
        "rows.jsonl#1",
        "trade.txt",
    ]


def test_what_is_not_in_the_index_is_named(corpus: str, root: str) -> None:
    search = open_index(build_index(corpus, root))
    with pytest.raises(BadInput, match=r"nowhere\.md"):
        search.document_text("nowhere.md")
    for unknown in ("birds.md:0-3", "birds", "fish.txt ", ""):
        with pytest.raises(BadInput, match="has no document"):
            search.document_text(unknown)
    with pytest.raises(BadInput, match="k is 0"):
        search.search("eels", 0)


def test_a_second_build_reads_nothing_and_a_new_file_alone(corpus: str, root: str) -> None:
    first = build_index(corpus, root)
    assert build_index(corpus, root) == first.model_copy(update={"n_indexed": 0})
    (Path(corpus) / "seal.txt").write_text("Seals hunt cod.")
    second = build_index(corpus, root)
    assert (second.n_documents, second.n_indexed) == (7, 1)
    assert second.corpus_hash != first.corpus_hash
    assert found(second, "seals") == ["seal.txt"]
    assert found(first, "seals") == []


def test_a_file_changed_within_one_clock_tick_is_read_again(corpus: str, root: str) -> None:
    build_index(corpus, root)
    path = Path(corpus) / "trade.txt"
    before = path.stat()
    path.write_text(path.read_text().replace("dried", "salted"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    index = build_index(corpus, root)
    assert index.n_indexed == 1
    assert found(index, "salted") == ["trade.txt"]


def test_an_unchanged_old_file_is_not_even_opened(corpus: str, root: str) -> None:
    time.sleep(2.1)  # younger files are read again to be sure
    first = build_index(corpus, root)
    catalogue = next((Path(root) / "catalogues").glob("*.jsonl"))
    lines = catalogue.read_text().splitlines()
    assert len(lines) == 5
    assert all(json.loads(line)[1] for line in lines)
    fish = Path(corpus) / "fish.txt"
    seen = fish.stat().st_atime_ns
    assert build_index(corpus, root).corpus_hash == first.corpus_hash
    assert fish.stat().st_atime_ns == seen


def test_the_same_corpus_elsewhere_has_the_same_address(
    corpus: str, root: str, tmp_path: Path
) -> None:
    copy = write(tmp_path / "copy", PAGES)
    first, second = build_index(corpus, root), build_index(copy, root)
    assert (second.uri, second.n_indexed) == (first.uri, 0)


def test_a_lost_fragment_or_index_is_made_again(corpus: str, root: str) -> None:
    first = build_index(corpus, root)
    shutil.rmtree(first.uri)
    shutil.rmtree(next((Path(root) / "fragments").iterdir()))
    second = build_index(corpus, root)
    assert second.uri == first.uri
    assert found(second, "puffins eat") == found(first, "puffins eat")


def test_any_process_builds_the_same_bytes(corpus: str, tmp_path: Path) -> None:
    code = "import sys; from nemoflows.search import build_index; build_index(*sys.argv[1:])"
    contents = []
    for seed in ("1", "2"):
        root = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, corpus, str(root)]
        subprocess.run(command, check=True, env=environment)
        files = (
            path for path in root.rglob("*") if path.is_file() and "catalogues" not in path.parts
        )
        contents.append({str(path.relative_to(root)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from nemoflows.search import build_index
from test_search import embed
def progress(stage, done, total):
    if (stage, done) == ({stage!r}, {done}):
        os.kill(os.getpid(), signal.SIGKILL)
build_index({corpus!r}, {root!r}, embed=embed, embedder="words", progress=progress)
"""


@pytest.mark.parametrize(("stage", "done"), [("read", 1), ("read", 5), ("embed", 5), ("merge", 2)])
def test_a_killed_build_serves_nothing_and_goes_on_where_it_was(
    corpus: str, root: str, tmp_path: Path, stage: str, done: int
) -> None:
    here = str(Path(__file__).parent)
    code = KILLED.format(tests=here, stage=stage, done=done, corpus=corpus, root=root)
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not list(Path(root).glob("indexes/[!.]*"))
    index = build_index(corpus, root, embed=embed, embedder="words")
    assert index.n_indexed == {1: 5, 5: 0, 2: 0}[done]
    whole = build_index(corpus, str(tmp_path / "clean"), embed=embed, embedder="words")
    assert index.corpus_hash == whole.corpus_hash
    vector = embed(["puffins eat"])
    results = [open_index(i).search("puffins eat", vector=vector) for i in (index, whole)]
    assert results[0] == results[1]


def test_a_folder_without_its_manifest_is_no_index_and_is_replaced(corpus: str, root: str) -> None:
    index = build_index(corpus, root)
    (Path(index.uri) / "manifest.json").unlink()
    with pytest.raises(BadInput, match="no whole index"):
        open_index(index)
    assert found(build_index(corpus, root), "cod") == found(index, "cod")


def test_an_index_of_another_format_says_what_to_do(corpus: str, root: str) -> None:
    index = build_index(corpus, root)
    manifest = Path(index.uri) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 4', '"format": 99'))
    with pytest.raises(BadInput, match="format 99, this version reads 4"):
        open_index(index)


def test_a_build_killed_long_ago_leaves_nothing_behind(corpus: str, root: str) -> None:
    left = Path(root) / "indexes" / ".tmp-nemoflows-old"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    build_index(corpus, root)
    assert not left.exists()


def test_bad_files_are_reported_and_the_rest_is_indexed(corpus: str, root: str) -> None:
    folder = Path(corpus)
    (folder / "junk.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "broken.parquet").write_bytes(b"junk")
    (folder / "empty.txt").write_text(" \n")
    os.mkfifo(folder / "pipe")
    with (folder / "long.log").open("wb") as file:
        file.truncate(300 * 2**20)
    index = build_index(corpus, root)
    reasons = {skipped.document: skipped.reason for skipped in index.skipped}
    assert (index.n_documents, index.n_skipped) == (6, len(reasons))
    assert sorted(reasons) == [
        "broken.parquet",
        "broken.pdf",
        "empty.txt",
        "junk.bin",
        "long.log",
        "pipe",
    ]
    assert "300 MiB is over the limit of 64 MiB" in reasons["long.log"]
    assert build_index(corpus, root).skipped == index.skipped


def test_at_most_a_hundred_skipped_files_are_named_and_all_are_counted(
    corpus: str, root: str
) -> None:
    write(Path(corpus), {f"empty{number}.txt": "" for number in range(120)})
    index = build_index(corpus, root)
    assert (len(index.skipped), index.n_skipped) == (100, 120)


@pytest.mark.parametrize("pages", [{}, {"a.bin": "\0"}, {"a.txt": "  "}, {".hidden": "text"}])
def test_a_corpus_with_nothing_to_index_is_an_error(
    tmp_path: Path, root: str, pages: dict[str, str]
) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(CorpusError, match="can be indexed"):
        build_index(write(tmp_path / "c", pages), root)


def test_a_root_inside_the_corpus_is_not_indexed(corpus: str) -> None:
    root = f"{corpus}/index"
    first = build_index(corpus, root)
    assert build_index(corpus, root).uri == first.uri


def test_both_legs_are_fused_where_a_vector_is_given(corpus: str, root: str) -> None:
    search = open_index(build_index(corpus, root, embed=embed, embedder="words"))
    vector = embed(["dried and sold"])
    assert search.search("", 1, vector=vector)[0].document == "trade.txt"
    fused = search.search("puffins", 10, vector=vector)
    lexical = search.search("puffins", 10)
    assert {p.id for p in lexical} < {p.id for p in fused}
    assert "trade.txt" in [p.document for p in fused]
    assert fused == search.search("puffins", 10, vector=vector[0])


def test_an_added_file_is_embedded_alone(corpus: str, root: str) -> None:
    asked: list[int] = []

    def counted(texts: list[str]) -> NDArray[np.float32]:
        asked.append(len(texts))
        return embed(texts)

    first = build_index(corpus, root, embed=counted, embedder="words")
    write(Path(corpus), {"seal.txt": "Seals hunt cod."})
    build_index(corpus, root, embed=counted, embedder="words")
    assert asked == [first.n_passages, 1]
    assert build_index(corpus, root).embedder == ""


def test_a_vector_that_does_not_fit_is_refused(corpus: str, root: str) -> None:
    with_vectors = open_index(build_index(corpus, root, embed=embed, embedder="words"))
    without = open_index(build_index(corpus, root))
    with pytest.raises(BadInput, match=r"3 dimensions does not fit.*words \(16"):
        with_vectors.search("cod", vector=np.ones(3, np.float32))
    with pytest.raises(BadInput, match="embedder is none"):
        without.search("cod", vector=np.ones(16, np.float32))


def test_a_bad_embedder_is_caught_before_anything_is_stored(corpus: str, root: str) -> None:
    with pytest.raises(BadReply, match="shape"):
        build_index(corpus, root, embed=lambda texts: embed(texts[1:]), embedder="short")
    with pytest.raises(BadReply, match="no numbers"):
        build_index(corpus, root, embed=lambda texts: embed(texts) * np.nan, embedder="nan")
    with pytest.raises(BadInput, match="both embed and embedder"):
        build_index(corpus, root, embedder="words")
    assert not list(Path(root).rglob("*.npy"))


def test_corpus_and_index_may_lie_in_an_object_store(corpus: str, s3: str, tmp_path: Path) -> None:
    store = open_store(f"{s3}/corpus")
    for name, page in PAGES.items():
        store.write(name, page.encode())
    index = build_index(f"{s3}/corpus", f"{s3}/base", embed=embed, embedder="words")
    local = build_index(corpus, str(tmp_path / "root"), embed=embed, embedder="words")
    assert index.uri == f"{s3}/base/indexes/{local.corpus_hash}"
    here, there = open_index(local), open_index(index, cache=str(tmp_path / "cache"))
    vector = embed(["eels in the sea"])
    assert there.search("eels", vector=vector) == here.search("eels", vector=vector)
    assert there.document_text("fish.txt") == PAGES["fish.txt"]
    assert documents(there) == documents(here)
    assert not list((tmp_path / "cache").rglob("passages.jsonl"))
    assert build_index(f"{s3}/corpus", f"{s3}/base", embed=embed, embedder="words").n_indexed == 0
    store.write("seal.txt", b"Seals hunt cod.")
    assert build_index(f"{s3}/corpus", f"{s3}/base").n_indexed == 1


def test_a_half_uploaded_index_is_not_served(corpus: str, s3: str, tmp_path: Path) -> None:
    index = build_index(corpus, f"{s3}/base")
    fsspec.filesystem("s3").rm_file(f"{index.uri}/manifest.json")
    with pytest.raises(BadInput, match="no whole index"):
        open_index(index)
    again = build_index(corpus, f"{s3}/base")
    assert open_index(again, cache=str(tmp_path)).search("cod")


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_named(root: str) -> None:
    with pytest.raises(CorpusError, match="nowhere"):
        build_index("s3://nowhere/corpus", root)


def test_equal_scores_keep_the_order_of_the_passages() -> None:
    places, scores = top(np.array([1, 2, 0, 2, 1, 1], np.float32), 4)
    assert (places.tolist(), scores.tolist()) == ([1, 3, 0, 4], [2, 2, 1, 1])


def test_importing_the_search_loads_no_engine() -> None:
    code = (
        "import sys, nemoflows.search as s; heavy = {'bm25s', 'lancedb', 'pypdfium2', "
        "'selectolax', 'torch', 'pandas', 'pyarrow', 'fsspec'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fragments_change_their_address_when_what_is_in_them_changes(corpus: str) -> None:
    """When this fails, raise the VERSION of the module that changed, then the hash here."""
    entries = [
        (
            entry.document,
            entry.text,
            [(s.start, s.end, s.heading, s.terms) for s in entry.stretches],
        )
        for name in PAGES
        for entry in fragments.read(name, (Path(corpus) / name).read_bytes(), print)
    ]
    content = hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]
    assert (fragments.SETTINGS, content) == (
        f"4/{words_of_text.VERSION}/8/1/1000/3",
        "9288397b6e16409d",
    )
