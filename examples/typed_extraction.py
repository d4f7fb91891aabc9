"""Read records of your own pydantic model from documents, each value with its span.

    pyflyte run examples/typed_extraction.py read_receipts --folder examples/receipts

With no model named the builtin tier reads by rules; NEMOFLOWS_EFFICIENT=… names a model.
"""

import datetime as dt

import pandas as pd
from flytekit import workflow
from pydantic import BaseModel, Field

from nemoflows import Extraction, Policy, build_index, extract_as, retrieve
from nemoflows.tasks import POLICY, task


class Receipt(BaseModel):
    """What we want to know of a receipt."""

    company: str | None = Field(default=None, description="Name of the shop")
    date: dt.date | None = Field(default=None, description="Date of the receipt")
    total: float = Field(ge=0, description="Total amount to pay")


receipts = extract_as(Receipt, name="receipts")


@task()
def as_table(rows: list[Extraction[Receipt]]) -> pd.DataFrame:
    """Return the records as a table, one row per passage.

    Args:
        rows: What `receipts` returned.

    Returns:
        The values, each total with the characters it was read from, and what went wrong.
    """
    return pd.DataFrame(
        {
            "document": row.document,
            "company": row.value.company if row.value else None,
            "total": row.value.total if row.value else None,
            "read from": next((s.quote for s in row.spans if s.field == "total"), ""),
            "problem": row.problem,
        }
        for row in rows
    )


@workflow
def read_receipts(folder: str, k: int = 20, policy: Policy = POLICY) -> pd.DataFrame:
    """Find the passages that look like receipts and read one record from each."""
    index = build_index(corpus=folder, policy=policy)
    passages = retrieve(question="receipt total amount", index=index, k=k)
    return as_table(rows=receipts(rows=passages, policy=policy))
