"""CPU tasks on documents: index a corpus, retrieve passages. Neither asks a language model."""

from __future__ import annotations

import logging

from nemoflows import rag
from nemoflows.errors import one_line
from nemoflows.progress import progress
from nemoflows.rag.types import Passages
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.places import refuse_laptops_path
from nemoflows.tasks.flyte.session import run, session
from nemoflows.types import Index, Policy

log = logging.getLogger("nemoflows")

SHOWN = 5
"""Skipped files that are logged; the report lists a hundred."""


@task(index=True)
def build_index(corpus: str, policy: Policy = POLICY) -> Index:
    """Index a folder of documents, or open the index that is there already.

    The index is addressed by content: with one file added only that file is read anew, and with
    nothing changed nothing is. What cannot be indexed is listed in the result with the reason.

    Args:
        corpus: Folder, file or object-store prefix (s3://…) of text, Markdown, HTML, PDF, JSON,
            XML, source code and tables (Parquet, JSONL, CSV); with the extra `office` docx, xlsx
            and pptx.
        policy: How models are asked; its `embedder` makes vectors beside the lexical search.

    Returns:
        Where the index lies and what is in it.

    Raises:
        CorpusError: The corpus is missing, empty or unreadable.
    """
    current = session()
    refuse_laptops_path(corpus, "corpus")
    with progress("index") as tell:
        index = run(
            rag.build_index(
                corpus,
                root=current.index_root,
                llm=current.llm,
                embedder=policy.embedder,
                progress=lambda stage, done, total: tell(done, total, stage),
            )
        )
    _tell(index)
    return index


def _tell(index: Index) -> None:
    log.info(
        "index: %d documents, %d read anew, %d passages, %d files skipped",
        index.n_documents,
        index.n_indexed,
        index.n_passages,
        index.n_skipped,
    )
    for skipped in index.skipped[:SHOWN]:
        log.warning("%s", one_line(f"skipped {skipped.document}: {skipped.reason}"))
    if index.n_skipped > SHOWN:
        log.warning("and %d more: the report lists them", index.n_skipped - SHOWN)
    for note in index.notes[:SHOWN]:
        log.warning("%s", one_line(f"read {note.document}, but {note.reason}"))


@task(index=True)
def retrieve(question: str, index: Index, k: int = 8) -> Passages:
    """Return the passages of an index that fit a question best, best first.

    Args:
        question: What to look for.
        index: What `build_index` returned.
        k: How many passages at most.

    Returns:
        The question, and passages with their document, offsets and headings.

    Raises:
        BadInput: The question is empty, or `k` is below 1.
    """
    return run(rag.retrieve(question, index=index, k=k, llm=session().llm))
