from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from nemoflows.errors import CorpusError, EndpointDown
from nemoflows.search import build_index, open_index
from nemoflows.storage.opening import open_store
from nemoflows.types import Index
from tests.test_hostile_corpora import write


def test_a_prefix_without_files_says_so(s3: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there are no files"):
        build_index(f"{s3}/nothing/here", str(tmp_path / "root"))


def test_a_store_without_credentials_is_named(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    corpus = write(tmp_path / "c", {"a.txt": "text"})
    for attempt in (
        lambda: build_index(f"{s3}/corpus", str(tmp_path / "root")),
        lambda: build_index(corpus, f"{s3}/base"),
        lambda: open_index(f"{s3}/base/indexes/x"),
    ):
        with pytest.raises(CorpusError, match="credentials"):
            attempt()


def test_a_store_that_does_not_answer_is_worth_another_attempt(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(EndpointDown, match="Check the endpoint"):
        build_index(f"{s3}/corpus", str(tmp_path / "root"))


def test_a_missing_bucket_for_the_root_is_named(s3: str, tmp_path: Path) -> None:
    assert s3
    corpus = write(tmp_path / "c", {"a.txt": "text"})
    with pytest.raises(CorpusError, match="nowhere"):
        build_index(corpus, "s3://nowhere-at-all/root")


def part(index: Index, name: str) -> str:
    """Return where a file of the index's only segment lies."""
    root = index.uri.partition("/indexes/")[0]
    store = open_store(root)
    (found,) = (each for each in store.names("segments") if each.endswith(f"/{name}"))
    return f"{root}/{found}"


def read_all(index: Index, cache: str) -> None:
    search = open_index(index, cache=cache)
    search.search("puffin")
    search.document_text("a.txt")


def test_a_damaged_index_in_an_object_store_is_made_anew(s3: str, tmp_path: Path) -> None:
    corpus = write(tmp_path / "c", {"a.txt": "A puffin.", "b.txt": "A cod."})
    index = build_index(corpus, f"{s3}/base")
    before = open_index(index, cache=str(tmp_path / "0")).search("puffin")
    for number, name in enumerate(("passages.jsonl", "names.jsonl", "documents.txt"), start=1):
        fsspec.filesystem("s3").pipe_file(part(index, name), b"cut")
        with pytest.raises(CorpusError, match="not what was written"):
            read_all(index, str(tmp_path / f"damaged{number}"))
        again = build_index(corpus, f"{s3}/base")
        assert open_index(again, cache=str(tmp_path / f"again{number}")).search("puffin") == before


def test_a_file_that_is_gone_from_an_object_store_is_named(tmp_path: Path) -> None:
    corpus = write(tmp_path / "c", {"a.txt": "A puffin."})
    index = build_index(corpus, f"memory://{uuid.uuid4()}")
    fsspec.filesystem("memory").rm_file(part(index, "names.jsonl"))
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"names\.jsonl is missing"):
            open_index(index, cache=str(tmp_path / "cache"))
    read_all(build_index(corpus, index.uri.partition("/indexes")[0]), str(tmp_path / "cache"))


def test_an_object_that_may_not_be_read_is_skipped_and_tried_again(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("s3")
    for name in ("a.txt", "b.txt"):
        store.pipe_file(f"{s3}/corpus/{name}", b"A puffin.")
    fetch = store.cat_file

    def refusing(path: str) -> bytes:
        if path.endswith("b.txt"):
            raise PermissionError(13, "Access Denied")
        content: bytes = fetch(path)
        return content

    with monkeypatch.context() as refused:
        refused.setattr(store, "cat_file", refusing)
        index = build_index(f"{s3}/corpus", str(tmp_path / "root"))
    assert [(s.document, s.reason) for s in index.skipped] == [
        ("b.txt", "unreadable: Access Denied")
    ]
    assert build_index(f"{s3}/corpus", str(tmp_path / "root")).n_documents == 2


def test_a_range_that_cannot_be_read_is_an_error_and_no_text(s3: str, tmp_path: Path) -> None:
    corpus = write(tmp_path / "c", {"a.txt": "A puffin."})
    index = build_index(corpus, f"{s3}/base")
    search = open_index(index, cache=str(tmp_path / "cache"))
    assert search.search("puffin")
    fsspec.filesystem("s3").rm_file(part(index, "passages.jsonl"))
    with pytest.raises(CorpusError, match=r"ranges of .* cannot be read"):
        search.search("puffin")
