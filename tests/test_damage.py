from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nemoflows.errors import BadInput, CorpusError
from nemoflows.search import build_index, fragments, open_index
from nemoflows.search.prune import prune
from nemoflows.storage.integrity import add_checksum
from nemoflows.storage.opening import open_store
from nemoflows.types import Index
from tests.support import ROOT
from tests.test_search import embed

QUERY = "word7 word3 common"


def write(folder: Path, n: int, *, words: int = 40) -> str:
    folder.mkdir(parents=True)
    for number in range(n):
        more = " ".join(f"word{(number * 7 + at) % 200}" for at in range(words))
        (folder / f"{number:03}.txt").write_text(f"File {number} is common. {more}")
    return str(folder)


def results(index: Index) -> list[tuple[str, str, float]]:
    search = open_index(index)
    passages = search.search(QUERY, 10)
    for passage in passages:
        assert search.document_text(passage.document)[passage.start : passage.end] == passage.text
    return [(p.id, p.text, p.score) for p in passages]


def served(index: Index) -> list[tuple[str, str]]:
    """Return ids and texts that a search gives, none where it says that the index is damaged."""
    try:
        return [(name, text) for name, text, _ in results(index)]
    except BadInput as error:
        if "build" not in error.message.lower():
            raise
        return []


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return write(tmp_path / "corpus", 12)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


def emptied(data: bytes) -> bytes:
    return data[:0]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """Change bytes all over the file and keep its length."""
    return bytes(byte ^ 0x15 if 20 < at % 97 < 30 else byte for at, byte in enumerate(data))


def one_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def other_json(data: bytes) -> bytes:
    del data
    return b'["not", {"what": "it was"}]'


DAMAGES = (emptied, halved, flipped, one_bit, other_json)
Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_gives_the_same_text_or_a_clear_error(
    corpus: str, root: str, damage: Damage
) -> None:
    index = build_index(corpus, root)
    whole = dict(served(index))
    assert len(whole) == 10
    files = [*Path(index.uri).rglob("*"), *Path(root, "segments").rglob("*")]
    for path in sorted(path for path in files if path.is_file()):
        before = path.read_bytes()
        path.write_bytes(damage(before))
        for name, text in served(index):
            assert text == whole.get(name, text), f"{damage.__name__} {path.name}"
        path.write_bytes(before)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_next_build_makes_a_damaged_index_anew(corpus: str, root: str, damage: Damage) -> None:
    index = build_index(corpus, root)
    before = results(index)
    for name in sorted(p.relative_to(root) for p in Path(root).rglob("*") if p.is_file()):
        if name.suffix == ".z":
            continue
        path = Path(root) / name
        path.write_bytes(damage(path.read_bytes()))
        again = build_index(corpus, root)
        assert (again.corpus_hash, again.uri) == (index.corpus_hash, index.uri)
        assert results(again) == before, f"{damage.__name__} {name}"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_fragment_is_made_again_from_its_file(
    corpus: str, root: str, tmp_path: Path, damage: Damage
) -> None:
    index = build_index(corpus, root)
    before = results(index)
    for path in sorted(Path(root).rglob("*.json.z"))[:3]:
        path.write_bytes(damage(path.read_bytes()))
    # Segments hold what was read, so that fragments are not even looked at while those are whole.
    shutil.rmtree(Path(root) / "segments")
    (Path(corpus) / "new.txt").write_text("A new file is common.")
    again = build_index(corpus, root)
    # Three that were damaged and the one that is new; the first look made only the latter.
    assert again.n_indexed in {3, 4}
    clean = build_index(corpus, str(tmp_path / "clean"))
    assert again.corpus_hash == clean.corpus_hash
    assert results(again) == results(clean)
    (Path(corpus) / "new.txt").unlink()
    assert results(build_index(corpus, root)) == before


def test_damaged_vectors_are_embedded_again(corpus: str, root: str) -> None:
    index = build_index(corpus, root, embed=embed, embedder="words")
    vector = embed([QUERY])
    before = open_index(index).search("", 5, vector=vector)
    vectors = sorted(Path(root).glob("fragments/*/*.npy"))
    vectors[0].write_bytes(one_bit(vectors[0].read_bytes()))
    vectors[1].write_bytes(b"")
    shutil.rmtree(Path(root) / "segments")
    asked: list[str] = []

    def counted(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        asked.extend(texts)
        return embed(texts)

    again = build_index(corpus, root, embed=counted, embedder="words")
    assert len(asked) == 2
    assert open_index(again).search("", 5, vector=vector) == before


def test_a_fragment_that_stays_damaged_is_an_error_and_no_endless_build(
    corpus: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fragments, "add_checksum", lambda content: add_checksum(content)[:-1])
    with pytest.raises(CorpusError, match="cut short or changed"):
        build_index(corpus, root)


def test_twenty_builds_killed_at_random_instants_lead_to_the_same_index(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus", 200)
    roots = tmp_path / "roots"
    roots.mkdir()
    command = [sys.executable, "-m", "tests.kills", corpus, str(roots), "20"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    corpus_hash, n_indexed, passages = found["clean"]
    assert (n_indexed, len(passages)) == (200, 20)
    assert len(found["after"]) == 20
    for following in found["after"]:
        assert (following[0], following[2], following[3]) == (corpus_hash, passages, 0)
    # Otherwise nothing was interrupted, or nothing was kept.
    assert len({following[1] for following in found["after"]}) > 1


BUILD = (
    "import sys; from nemoflows.search import build_index; print(build_index(*sys.argv[1:]).uri)"
)


def test_builds_at_once_of_one_root_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", 60), write(tmp_path / "other", 30, words=80)
    root = str(tmp_path / "root")
    builds = [
        subprocess.Popen([sys.executable, "-c", BUILD, c, root], stdout=subprocess.PIPE, text=True)
        for c in (one, one, other)
    ]
    uris = [build.communicate()[0].strip() for build in builds]
    assert [build.returncode for build in builds] == [0, 0, 0]
    assert uris[0] == uris[1] != uris[2]
    for corpus, uri in ((one, uris[0]), (other, uris[2])):
        alone = build_index(corpus, str(tmp_path / "alone"))
        assert open_index(uri).search(QUERY, 10) == open_index(alone).search(QUERY, 10)
        assert build_index(corpus, root).n_indexed == 0
    assert not list(Path(root).rglob(".tmp-*"))


@pytest.mark.parametrize("limit_bytes", [100, 1_000, 2_500, 4_500])
def test_a_full_disk_is_named_and_a_build_after_it_is_whole(
    corpus: str, root: str, limit_bytes: int
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        with pytest.raises(CorpusError, match="cannot be written") as caught:
            build_index(corpus, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "space left" in caught.value.message
    assert not list(Path(root).rglob(".tmp-*"))
    assert results(build_index(corpus, root))


def test_an_abandoned_piece_of_a_fragment_is_swept_with_old_indexes(corpus: str, root: str) -> None:
    build_index(corpus, root)
    left = next(Path(root).glob("fragments/*")) / ".tmp-nemoflows-killed"
    fresh = left.with_name(".tmp-nemoflows-running")
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    prune(open_store(root))
    assert (left.exists(), fresh.exists()) == (False, True)


@pytest.mark.parametrize("root", ["", "  "])
def test_a_root_without_a_name_is_refused(corpus: str, root: str) -> None:
    with pytest.raises(BadInput, match="root has no name"):
        build_index(corpus, root)


@pytest.mark.parametrize("name", ["000.txt", "000.txt/below", "nul\0byte"])
def test_a_root_that_can_be_no_folder_is_named(corpus: str, name: str) -> None:
    with pytest.raises(CorpusError, match="cannot be"):
        build_index(corpus, f"{corpus}/{name}")


def test_an_unknown_kind_of_root_is_named(corpus: str) -> None:
    with pytest.raises(CorpusError, match="s3x"):
        build_index(corpus, "s3x://bucket/root")


@pytest.mark.parametrize("manifest", ["", "[]", "{}", "null", '{"format": '])
def test_what_is_no_manifest_makes_no_index(corpus: str, root: str, manifest: str) -> None:
    index = build_index(corpus, root)
    (Path(index.uri) / "manifest.json").write_text(manifest)
    with pytest.raises(BadInput, match="no whole index"):
        open_index(index)
    assert results(build_index(corpus, root))


@pytest.mark.parametrize(
    "notes", [b"", b"{", b"[]", b'{"000.txt": 7}', b'["000.txt",7]\n[[],1,2]', b"\xff\xfe\0"]
)
def test_broken_notes_on_a_corpus_count_as_none(corpus: str, root: str, notes: bytes) -> None:
    index = build_index(corpus, root)
    for path in Path(root).glob("catalogues/*.json*"):
        path.write_bytes(notes)
    again = build_index(corpus, root)
    assert (again.uri, again.n_indexed) == (index.uri, 0)
    (path,) = Path(root).glob("catalogues/*.jsonl")
    names = [json.loads(line)[0] for line in path.read_text().splitlines()]
    assert names == [f"{n:03}.txt" for n in range(12)]
    (path,) = Path(root).glob("catalogues/*.json")
    assert list(json.loads(path.read_text())["indexes"].values()) == [index.corpus_hash]
