"""Answers without a model: does the first cited sentence hold the answer, do two hops help?

    python -m benchmarks.answers DIR…

Each DIR holds corpus.jsonl {id, title, text} and qa.jsonl. Questions with `answers` and
`gold_ids` are asked of an index over the whole corpus; questions with `context_ids` and two
`gold_ids` of an index over their own paragraphs. Indexing, search, extraction, rewriting and
merging are the product's. Prints JSON lines; every value with its 95 % bootstrap interval.
The extraction's weights were chosen on xquad_en's open part, the merging's on hotpot200's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.statistics import interval
from nemoflows.engines.builtin import extract, rewrite
from nemoflows.search import SearchIndex, build_index, open_index
from nemoflows.search.fusion import merge_hops
from nemoflows.types import Evidence, Passage

K = 8
"""Passages per search, as in the library's defaults."""
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


class Paragraphs:
    """An index over paragraphs, each a row of one table."""

    def __init__(self, rows: Sequence[Row], work: Path) -> None:
        corpus = work / "corpus"
        corpus.mkdir(parents=True)
        lines = [json.dumps({"title": row["title"], "text": row["text"]}) for row in rows]
        (corpus / "paragraphs.jsonl").write_text("\n".join(lines), "utf-8")
        self._ids = [row["id"] for row in rows]
        self._index: SearchIndex = open_index(build_index(str(corpus), str(work / "root")))

    def search(self, query: str, k: int) -> list[Passage]:
        """Return the product's `k` best passages."""
        return self._index.search(query, k)

    def ids(self, documents: Sequence[str]) -> list[str]:
        """Return the set's own ids of documents, each once, in order."""
        rows = (int(document.rpartition("#")[2]) for document in documents)
        return list(dict.fromkeys(self._ids[row] for row in rows))


def one_hop(corpus: Sequence[Row], questions: Sequence[Row], work: Path) -> Iterator[Row]:
    """Yield per question what was right about retrieving and quoting."""
    index = Paragraphs(corpus, work)
    by_id = {row["id"]: row for row in corpus}
    for row in questions:
        gold = set(row["gold_ids"])
        passages = index.search(row["question"], K)
        found = extract(row["question"], passages)
        inside = extract(row["question"], [_whole(by_id[name]) for name in row["gold_ids"]])
        retrieved = index.ids([passage.document for passage in passages])
        yield {
            "answer in first sentence": _holds(found[:1], row["answers"]),
            "answer in first two sentences": _holds(found[:2], row["answers"]),
            "answer in all sentences": _holds(found, row["answers"]),
            f"paragraph recall@{K}": bool(gold & set(retrieved)),
            "paragraph of first sentence": bool(
                gold & set(index.ids([piece.document for piece in found[:1]]))
            ),
            "answer in first sentence, gold paragraph given": _holds(inside[:1], row["answers"]),
            "nothing found": not found,
        }


def two_hops(corpus: Sequence[Row], questions: Sequence[Row], work: Path) -> Iterator[Row]:
    """Yield per question whether both supporting paragraphs lead, after one hop and after two."""
    by_id = {row["id"]: row for row in corpus}
    for number, row in enumerate(questions):
        index = Paragraphs([by_id[name] for name in row["context_ids"]], work / str(number))
        question, gold = row["question"], set(row["gold_ids"])
        hops = [index.search(question, K)]
        query = rewrite(question, hops[0], [question])
        if query:
            hops.append(index.search(query, K))
        single, both = ([p.document for p in hop] for hop in (hops[0], merge_hops(hops)))
        yield {
            "both in top 2, one hop": gold == set(index.ids(single)[:2]),
            "both in top 2, two hops": gold == set(index.ids(both)[:2]),
            "both in top 4, two hops": gold <= set(index.ids(both)[:4]),
            "asked a second time": bool(query),
        }


def unanswerable(corpus: Sequence[Row], questions: Sequence[Row], work: Path) -> Iterator[Row]:
    """Yield whether a question is left unanswered where all paragraphs of its title are gone."""
    index = Paragraphs(corpus, work)
    titles = {row["id"]: row["title"] for row in corpus}
    for row in questions:
        gone = {titles[name] for name in row["gold_ids"]}
        passages = [p for p in index.search(row["question"], 8 * K) if p.heading not in gone]
        yield {"nothing found, its articles gone": not extract(row["question"], passages[:K])}


def _whole(row: Row) -> Passage:
    """Return a paragraph as the one passage of its document."""
    text = row["text"]
    return Passage(
        id=row["id"], document=row["id"], start=0, end=len(text), text=text, heading=row["title"]
    )


def _holds(evidence: Sequence[Evidence], answers: Sequence[str]) -> bool:
    quotes = [piece.quote.casefold() for piece in evidence]
    return any(answer.casefold() in quote for answer in answers for quote in quotes)


def measure(folder: Path) -> None:
    """Print what a set's fields allow to measure."""
    corpus, questions = read(folder / "corpus.jsonl"), read(folder / "qa.jsonl")
    paired = [q for q in questions if q.get("context_ids") and len(q.get("gold_ids", [])) == 2]
    spans = [q for q in questions if q.get("answers") and q.get("gold_ids")]
    with tempfile.TemporaryDirectory() as work:
        if spans:
            report(folder.name, list(one_hop(corpus, spans, Path(work) / "one")))
            report(folder.name, list(unanswerable(corpus, spans, Path(work) / "gone")))
        if paired:
            report(folder.name, list(two_hops(corpus, paired, Path(work) / "two")))


def report(name: str, rows: Sequence[Row]) -> None:
    """Print the mean of every column with its interval."""
    for column in rows[0]:
        values = [float(row[column]) for row in rows]
        low, high = interval(values)
        line = {"set": name, "measure": column, "value": round(sum(values) / len(values), 4)}
        print(json.dumps(line | {"low": round(low, 4), "high": round(high, 4), "n": len(values)}))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        measure(Path(argument))
