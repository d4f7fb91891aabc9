"""What the frontier may cost at most, before anything is asked of it."""

from __future__ import annotations

from nemoflows.calls import Request
from nemoflows.calls.contract import MAX_QUOTES, checked_question
from nemoflows.llm.bound import BoundClient
from nemoflows.rag import prompts, quoting
from nemoflows.search.chunks import TARGET_CHARS
from nemoflows.types import Evidence, Finding, ModelRef, Passage

SENTENCE = "A short one, numbered. "
ASKS = 2
"""Times that one request may be asked: a reply that cannot be used is asked for once more."""


def frontier_most(
    question: str, *, client: BoundClient, n: int, k: int, hops: int
) -> dict[str, float | None]:
    """Return the most that each step of the frontier can cost, in USD; None where nobody knows.

    Every agent is taken to be escalated, every reply to be as long as it may, every request to be
    asked twice; passages are taken to be as long as the index makes them.
    """
    question = checked_question(question)
    passages = [_passage(number) for number in range(k)]
    quotes = [_quote(passages[0])] * MAX_QUOTES
    found = Finding(
        question=question, summary="x" * prompts.MAX_SUMMARY_CHARACTERS, evidence=quotes
    )
    extract = quoting.quoting(question, passages)[0]
    rewrite = prompts.rewrite(question, passages, [question] * hops)
    summarise = prompts.summarise(question, quotes)
    agent = [(extract, hops), (rewrite, hops - 1), (summarise, 1)]
    return {
        "plan": _most([(prompts.plan(question, n=n), 1)], client),
        "escalate": _most([(request, times * n) for request, times in agent], client),
        "synthesise": _most([(prompts.synthesise(question, [found] * n), 1)], client),
    }


def told(most: dict[str, float | None], model: ModelRef, budget_usd: float | None) -> str:
    """Return the sentence that a person approves."""
    prices = [usd for usd in most.values() if usd is not None]
    total = f"at most ${sum(prices):.4f}" if len(prices) == len(most) else "an unknown amount"
    steps = ", ".join(
        f"{step} {'unknown' if usd is None else f'${usd:.4f}'}" for step, usd in most.items()
    )
    within = f", within the budget of ${budget_usd:g}" if budget_usd is not None else ""
    return (
        f"The frontier {model} is about to be asked, for {total}{within} ({steps}; escalate is "
        "for what the efficient tier does not find, all of it at worst)."
    )


def _most(requests: list[tuple[Request, int]], client: BoundClient) -> float | None:
    total = 0.0
    for request, times in requests:
        usd = client.llm.worst_usd(client.ready(request))
        if usd is None:
            return None
        total += ASKS * times * usd
    return total


def _passage(number: int) -> Passage:
    text = SENTENCE * (2 * TARGET_CHARS // len(SENTENCE))  # in UTF-8 many letters take two bytes
    return Passage(id=f"{number}", document="d", start=0, end=len(text), text=text)


def _quote(passage: Passage) -> Evidence:
    text = passage.text[: quoting.MAX_UNIT_CHARACTERS]
    return Evidence(quote=text, document="d", start=0, end=len(text))
