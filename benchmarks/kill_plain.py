"""The program that `benchmarks.kill_matrix` kills: a step of one's own in plain Python.

python -m benchmarks.kill_plain QUESTION N
"""

import sys

import nemoflows
from benchmarks.kill_flows import PROMPT, Rating, is_doubted, show


def main(question: str, n: int) -> None:
    """Rate variations of a question, half of them on the frontier too; print a hash."""
    rows = [f"{question} Part {number}." for number in range(n)]
    with nemoflows.open_client() as client:
        show(client.ask_each(PROMPT, rows, returns=Rating, step="rate", check=is_doubted))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
