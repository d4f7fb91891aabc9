"""Ask a table: every row of a Parquet, JSONL or CSV file in the corpus is a document.

    python examples/ask_table.py

A title-like column becomes the row's heading, a text-like one its body, the others are lines of
`name: value`. A citation names the file, the row (from 0) and the characters in the row's text.
"""

import tempfile
from pathlib import Path

import pandas as pd

from nemoflows import Answer
from nemoflows.workflows.rag import answer_question

BUILDINGS = pd.DataFrame(
    {
        "title": ["Harbour bridge", "Market hall", "Observatory"],
        "text": [
            "The bridge over the harbour was opened in 1932 after eight years of work.",
            "The market hall burned down in 1908 and was rebuilt in brick.",
            "The observatory holds a refracting telescope with a lens of 91 centimetres.",
        ],
        "architect": ["J. Bradfield", "unknown", "J. Lick"],
    }
)


def ask(question: str) -> Answer:
    """Write the table as Parquet into a folder and ask the folder."""
    with tempfile.TemporaryDirectory() as folder:
        BUILDINGS.to_parquet(Path(folder, "buildings.parquet"))
        answer: Answer = answer_question(question=question, corpus=folder).answer
    return answer


if __name__ == "__main__":
    for citation in ask("When did the market hall burn down?").citations:
        print(citation.document, citation.quote)
