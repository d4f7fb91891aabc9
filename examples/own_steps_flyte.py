"""Steps of your own as Flyte tasks, each a cascade: the frontier looks at what failed.

pyflyte run examples/own_steps_flyte.py triage_mails --mails '["…", "…"]'
"""

from typing import Literal

from flytekit import workflow
from pydantic import BaseModel, Field

from nemoflows import Policy, Result, ask_as, classify_as
from nemoflows.tasks import POLICY


class Triage(BaseModel):
    """What is to be known of a mail."""

    urgency: Literal["low", "high"] = Field(description="How urgent it is")
    team: str = Field(description="The team that it is for")


Topic = Literal["billing", "web", "hiring"]


def names_a_team(value: Triage, mail: str) -> str:
    """Return why the frontier should look again; empty where all is well."""
    return "" if value.team.lower() in mail.lower() else f"The mail names no team {value.team!r}."


triage = ask_as(
    "Who should read this mail, and how soon?\n{text}",
    returns=Triage,
    name="triage",
    row=str,
    check=names_a_team,
)
topics = classify_as(Topic, name="topics", row=str)


@workflow
def triage_mails(
    mails: list[str], policy: Policy = POLICY
) -> tuple[list[Result[Triage]], list[Result[Topic]]]:
    """Triage mails, and sort them by topic."""
    return triage.cascade(rows=mails, policy=policy), topics.cascade(rows=mails, policy=policy)
