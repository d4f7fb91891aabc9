"""Ask a folder with two tiers: quotes from the efficient one, plan and answer from Claude.

    export ANTHROPIC_API_KEY=…
    python examples/with_claude.py DIR "How long is the Elbe?"

The efficient tier is `builtin`, so that this needs a key and nothing else; put your Nemotron
there. The report says what each tier cost; started again, the same question costs nothing.
"""

import sys

from nemoflows import Answer, Policy
from nemoflows.workflows.rag import answer_question


def ask(
    folder: str,
    question: str,
    frontier: str = "anthropic:claude-opus-5-5",
    efficient: str = "builtin",
) -> Answer:
    """Return the answer, after printing it with its sources, its cost and its report."""
    policy = Policy.model_validate({"efficient": efficient, "frontier": frontier})
    answer: Answer = answer_question(question=question, corpus=folder, policy=policy).answer
    return answer


if __name__ == "__main__":
    print(len(ask(*sys.argv[1:]).citations), "citations")
