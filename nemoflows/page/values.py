"""What a report shows: a story that the steps tell, and the calls that the journal tells."""

from __future__ import annotations

from pydantic import Field

from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Ledger, Spent
from nemoflows.money.savings import Savings, ShadowSample
from nemoflows.types import Answer, Citation, Finding, Index, Value

CONTEXT_CHARACTERS = 500
"""Characters shown on either side of a quote."""


class Context(Value):
    """A citation with what stands around it in its document."""

    citation: Citation
    before: str
    quote: str
    after: str


class Story(Value):
    """What a run found, and how: all that its journal's calls do not tell."""

    answer: Answer | None = None
    """None where the run has not come that far."""
    findings: list[Finding] = Field(default_factory=list)
    """One per question; where the next tier found better, that one."""
    contexts: list[Context] = Field(default_factory=list)
    index: Index | None = None
    tiers: dict[str, str] = Field(default_factory=dict)
    """Tier → the model's spelling."""
    reading: str = ""
    """Whether agents searched or read the whole corpus, and what either would take."""
    budget_usd: float | None = None
    shadow: ShadowSample = ShadowSample()
    call_keys: list[str] = Field(default_factory=list)
    """Every call of the run, the shadow sample's aside."""


class Page(Story):
    """What a page shows."""

    run: str = ""
    calls: list[Spent]
    ledger: Ledger
    savings: Savings = Savings()
    gpus: list[GpuUse] = Field(default_factory=list)
    uncertain: list[str] = Field(default_factory=list)
    """Attempts that were cut off, so that nobody knows whether they are billed."""
    durable: bool = True
    """False where the run had no journal."""

    @property
    def measuring(self) -> set[str]:
        """Return the keys of calls that the run would not have made but to measure."""
        return set(self.shadow.calls) - set(self.call_keys)


def context(citation: Citation, text: str) -> Context:
    """Return a citation with its surroundings, cut at word borders."""
    before = text[max(0, citation.start - CONTEXT_CHARACTERS) : citation.start]
    after = text[citation.end : citation.end + CONTEXT_CHARACTERS]
    if citation.start > CONTEXT_CHARACTERS:
        before = "…" + before.partition(" ")[2]
    if citation.end + CONTEXT_CHARACTERS < len(text):
        after = after.rpartition(" ")[0] + "…"
    quote = text[citation.start : citation.end]
    return Context(citation=citation, before=before, quote=quote, after=after)
