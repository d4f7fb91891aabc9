"""A user's module with steps of their own, as a pod imports it."""

from __future__ import annotations

import enum
from typing import Literal

from flytekit import workflow
from pydantic import BaseModel, Field

from nemoflows import (
    Extraction,
    Passage,
    Policy,
    Result,
    ask_as,
    bind,
    build_index,
    classify_as,
    extract_as,
    retrieve,
)
from nemoflows.tasks import POLICY


class River(BaseModel):
    """A river."""

    name: str = Field(description="Name of the river")
    length_km: int | None = Field(default=None, ge=0, description="How many kilometres long")


class Mail(BaseModel):
    """A mail."""

    subject: str
    body: str


class Triage(BaseModel):
    """What is to be known of a mail."""

    urgency: Literal["low", "high"]
    team: str


class Topic(enum.Enum):
    """What a mail is about."""

    BILLING = "billing"
    WEB = "web"


def names_a_team(value: Triage, mail: Mail) -> str:
    """Return why the frontier should look again; empty where all is well."""
    return "" if value.team in mail.body else f"{mail.subject} names no team {value.team!r}."


rivers = extract_as(River, name="tests.rivers")
triage = ask_as(
    "How urgent is it?\n{subject}\n{body}",
    returns=Triage,
    name="tests.triage",
    row=Mail,
    check=names_a_team,
)
topics = classify_as(Topic, name="tests.topics", row=str, samples=2, threshold=0.9)
texts = ask_as(
    "How urgent is it?\n{text}",
    returns=Triage,
    name="tests.texts",
    row=str,
    check=lambda value, text: "" if value.team in text else "It names another team.",
)
summary = ask_as("Say it in a word: {text}", returns=str, name="tests.summary", row=str)
large = bind(Policy.model_validate({"efficient": "fake:large"}), name="large")
of_large = ask_as("{text}", returns=str, name="tests.of_large", row=str, bound=large)


@workflow
def read_rivers(corpus: str, question: str, policy: Policy = POLICY) -> list[Extraction[River]]:
    """Read a river from each passage that fits the question."""
    index = build_index(corpus=corpus)
    passages = retrieve(question=question, index=index, k=3)
    return rivers(rows=passages, policy=policy)


@workflow
def triage_mails(mails: list[Mail], policy: Policy = POLICY) -> list[Result[Triage]]:
    """Triage mails; the frontier looks at those that name no team."""
    return triage.cascade(rows=mails, policy=policy)


@workflow
def triage_texts(mails: list[str], policy: Policy = POLICY) -> list[Result[Triage]]:
    """Triage mails that a person types: `pyflyte run` takes lists of texts, not of models."""
    return texts.cascade(rows=mails, policy=policy)


@workflow
def sort_mails(mails: list[str], policy: Policy = POLICY) -> list[Result[Topic]]:
    """Sort mails by topic."""
    return topics.cascade(rows=mails, policy=policy)


@workflow
def rivers_of(passages: list[Passage], policy: Policy = POLICY) -> list[Extraction[River]]:
    """Read a river from each passage; the frontier looks at those without one."""
    return rivers.cascade(rows=passages, policy=policy)


def by_hand(text: str) -> list[Passage]:
    """Return one passage of one's own."""
    return [Passage(id="hand", document="hand.txt", start=0, end=len(text), text=text)]
