"""Ask a folder of documents from plain Python: a Flyte workflow is also a function.

    python examples/ask_folder.py DIR "How long is the Elbe?"

With a model, name one: NEMOFLOWS_FRONTIER=openai:gpt-6-luna (and OPENAI_API_KEY).
"""

import sys

from nemoflows import Answer
from nemoflows.workflows.rag import answer_question


def ask(folder: str, question: str) -> Answer:
    """Return the answer, after printing it with its sources, its cost and its report."""
    answer: Answer = answer_question(question=question, corpus=folder).answer
    return answer


if __name__ == "__main__":
    found = ask(sys.argv[1], sys.argv[2])
    for citation in found.citations:
        print(citation.model_dump_json())
