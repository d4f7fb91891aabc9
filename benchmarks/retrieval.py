"""Measure retrieval: python -m benchmarks.retrieval DIR... [--embedder PATH].

Each DIR holds corpus.jsonl {id, title, text}, queries.jsonl {id, text} and qrels.tsv. The set is
indexed with the product's own `build_index`, opened from disk and asked through `SearchIndex`;
passages count for their document by the best of them. Beside it, in the same process, runs
bm25s with its defaults over whole documents, title and text.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics import interval, paired_interval
from nemoflows.engines.dense import Dense
from nemoflows.search import SearchIndex, build_index, open_index
from nemoflows.types import Index, ModelRef, Passage

Rank = Callable[[str], list[str]]
"""From a query to document ids, best first."""

_PASSAGES = 300
"""Asked for where 100 documents are wanted; several may be of one document."""


@dataclass(frozen=True)
class RetrievalSet:
    """Documents, queries and judgements."""

    name: str
    documents: list[dict[str, str]]
    queries: list[dict[str, str]]
    relevant: dict[str, dict[str, float]]

    @cached_property
    def texts(self) -> list[str]:
        """Return the judged queries' texts."""
        return [query["text"] for query in self.queries]


def read_set(folder: Path) -> RetrievalSet:
    """Read a set; queries without a relevant document are left out."""
    relevant: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if float(grade) > 0:
            relevant.setdefault(query, {})[document] = float(grade)
    queries = [query for query in _lines(folder / "queries.jsonl") if query["id"] in relevant]
    return RetrievalSet(folder.name, _lines(folder / "corpus.jsonl"), queries, relevant)


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def ndcg(found: Sequence[str], relevant: dict[str, float], *, k: int = 10) -> float:
    """Return the normalised discounted cumulative gain of the first `k`.

    Source: Jarvelin and Kekalainen (TOIS 2002), with linear gain as in trec_eval's ndcg_cut.
    """
    ideal = sorted(relevant.values(), reverse=True)[:k]
    gains = [relevant.get(document, 0.0) for document in found[:k]]
    return _discounted(gains) / _discounted(ideal)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def recall(found: Sequence[str], relevant: dict[str, float], *, k: int) -> float:
    """Return the share of the relevant documents among the first `k`."""
    return len(set(found[:k]) & set(relevant)) / len(relevant)


def index_set(data: RetrievalSet, work: Path, embedder: str) -> tuple[Index, float]:
    """Index the set as the JSONL table that it is; return the seconds it took."""
    corpus = work / "corpus"
    corpus.mkdir()
    rows = [json.dumps({"title": d["title"], "text": d["text"]}) for d in data.documents]
    (corpus / "documents.jsonl").write_text("\n".join(rows), "utf-8")
    started_s = time.perf_counter()
    if not embedder:
        built = build_index(str(corpus), str(work / "root"))
    else:
        embed = partial(Dense().embed_now, ModelRef(endpoint="dense", name=embedder))
        built = build_index(str(corpus), str(work / "root"), embed=embed, embedder=embedder)
    return built, time.perf_counter() - started_s


def by_document(data: RetrievalSet, passages: Sequence[Passage]) -> list[str]:
    """Return the ids of the passages' documents, each at its best passage."""
    rows = (int(passage.document.rpartition("#")[2]) for passage in passages)
    return list(dict.fromkeys(data.documents[row]["id"] for row in rows))


def bm25s_default(data: RetrievalSet) -> tuple[Rank, Callable[[str], object], float]:
    """Return bm25s as it comes, over title and text of whole documents; the seconds of indexing."""
    import bm25s

    started_s = time.perf_counter()
    texts = [f"{document['title']} {document['text']}" for document in data.documents]
    scorer = bm25s.BM25()
    scorer.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    index_s = time.perf_counter() - started_s

    def ask(query: str, k: int) -> list[int]:
        tokens = bm25s.tokenize(query, show_progress=False)
        rows, _ = scorer.retrieve(tokens, k=min(k, len(texts)), show_progress=False)
        return [int(row) for row in rows[0]]

    return (
        lambda query: [data.documents[row]["id"] for row in ask(query, 100)],
        lambda query: ask(query, 10),
        index_s,
    )


def per_second(
    ask: Callable[[str], object], queries: Sequence[str], *, least_s: float = 1
) -> float:
    """Return how many single queries are answered per second, one after the other."""
    for query in queries[:20]:
        ask(query)
    asked, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < least_s:
        ask(queries[asked % len(queries)])
        asked += 1
    return asked / (time.perf_counter() - started_s)


def quality(data: RetrievalSet, rank: Rank) -> dict[str, list[float]]:
    """Return each measure per query."""
    found = [(rank(query["text"]), data.relevant[query["id"]]) for query in data.queries]
    return {
        "ndcg10": [ndcg(documents, relevant) for documents, relevant in found],
        "recall10": [recall(documents, relevant, k=10) for documents, relevant in found],
        "recall100": [recall(documents, relevant, k=100) for documents, relevant in found],
    }


def line(name: str, mode: str, values: dict[str, list[float]], **more: object) -> None:
    """Print one JSON line; each quality with its 95 % interval."""
    shown: dict[str, object] = {"set": name, "mode": mode, "n": len(values["ndcg10"])}
    for measure, per_query in values.items():
        shown[measure] = round(float(np.mean(per_query)), 4)
        shown[f"{measure}_interval"] = [round(end, 4) for end in interval(per_query)]
    print(json.dumps(shown | more), flush=True)


def measure(data: RetrievalSet, embedder: str) -> dict[str, dict[str, list[float]]]:
    """Measure every mode on one set, print its lines and return the qualities."""
    results: dict[str, dict[str, list[float]]] = {}
    rank, ask, index_s = bm25s_default(data)
    results["bm25s-default"] = quality(data, rank)
    speed = {"queries_per_s": round(per_second(ask, data.texts)), "index_s": round(index_s, 2)}
    line(data.name, "bm25s-default", results["bm25s-default"], **speed)
    with tempfile.TemporaryDirectory() as folder:
        built, index_s = index_set(data, Path(folder), embedder)
        index = open_index(built.uri)
        for mode, rank, ask in _modes(data, index, embedder):
            results[mode] = quality(data, rank)
            other = "lexical" if mode in {"dense", "fused"} else "bm25s-default"
            difference = paired_interval(results[mode]["ndcg10"], results[other]["ndcg10"])
            line(
                data.name,
                mode,
                results[mode],
                **{f"ndcg10_minus_{other}_interval": [round(end, 4) for end in difference]},
                queries_per_s=round(per_second(ask, data.texts)),
                index_s=round(index_s, 2),
                n_passages=built.n_passages,
            )
    return results


def _modes(
    data: RetrievalSet, index: SearchIndex, embedder: str
) -> Iterator[tuple[str, Rank, Callable[[str], object]]]:
    """Yield each mode's name, its ranking of documents and a query as a user asks it (k=10)."""

    def vector(query: str) -> NDArray[np.float32]:
        return encoder.embed_now(model, [query], query=True)

    def documents(passages: Sequence[Passage]) -> list[str]:
        return by_document(data, passages)

    yield "lexical", lambda q: documents(index.search(q, _PASSAGES)), lambda q: index.search(q, 10)
    if not embedder:
        return
    encoder, model = Dense(), ModelRef(endpoint="dense", name=embedder)
    yield (
        "dense",
        lambda q: documents(index.search("", _PASSAGES, vector=vector(q))),
        lambda q: index.search("", 10, vector=vector(q)),
    )
    yield (
        "fused",
        lambda q: documents(index.search(q, _PASSAGES, vector=vector(q))),
        lambda q: index.search(q, 10, vector=vector(q)),
    )


def mean_lines(results: Sequence[dict[str, dict[str, list[float]]]]) -> None:
    """Print the mean over the sets per mode, each set with the same weight."""
    for mode in results[0]:
        shown: dict[str, object] = {"set": "mean", "mode": mode, "n": len(results)}
        for name in results[0][mode]:
            means = [float(np.mean(result[mode][name])) for result in results]
            shown[name] = round(float(np.mean(means)), 4)
            shown[f"{name}_interval"] = [
                round(end, 4) for end in _mean_interval(results, mode, name)
            ]
        print(json.dumps(shown), flush=True)


def _mean_interval(
    results: Sequence[dict[str, dict[str, list[float]]]], mode: str, name: str
) -> tuple[float, float]:
    """Return the interval of the mean of the sets' means; queries are drawn within each set."""
    draws = np.random.default_rng(0)
    samples = [np.asarray(result[mode][name]) for result in results]
    means = [
        np.mean([s[draws.integers(0, s.size, s.size)].mean() for s in samples]) for _ in range(2000)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.retrieval", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--embedder", default="", help="hub id or path for the dense leg")
    given = parser.parse_args()
    mean_lines([measure(read_set(folder), given.embedder) for folder in given.folders])


if __name__ == "__main__":
    main()
