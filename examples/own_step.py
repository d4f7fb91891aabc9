"""A step of your own in plain Python: priced, recorded, within a budget, with a value as reply.

    python examples/own_step.py
    nemoflows report RUN

Without a model in the policy or the environment the fields are looked for in the texts.
"""

from typing import Literal

from pydantic import BaseModel, Field

import nemoflows

MAILS = [
    "Urgency: high. Team: billing. The invoice of March was paid twice; we need it back today.",
    "Urgency: low. Team: web. The footer has a typo.",
]


class Triage(BaseModel):
    """What is to be known of a mail."""

    urgency: Literal["low", "high"] = Field(description="How urgent it is")
    team: str = Field(description="The team that it is for")


def main() -> None:
    """Triage the mails, and print what that cost."""
    with nemoflows.open_client() as client:
        prompt = "Who should read this mail, and how soon?\n{text}"
        for result in client.ask_each(prompt, MAILS, returns=Triage, step="triage"):
            print(result.value or result.problem)
        print(client.ledger)
        print(f"run: {client.run}")


if __name__ == "__main__":
    main()
