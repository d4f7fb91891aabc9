"""Remembering calls: records, intents and receipts, on a disk or in an object store."""

from nemoflows.journal.book import Journal
from nemoflows.journal.records import InDoubt, Intent, Receipt, Record, Recorded

__all__ = ["InDoubt", "Intent", "Journal", "Receipt", "Record", "Recorded"]
