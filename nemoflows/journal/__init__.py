"""Remembering calls: records, intents and receipts, on a disk or in an object store."""

from nemoflows.journal.book import Journal
from nemoflows.journal.records import Intent, Receipt, Record, Recorded, Uncertain

__all__ = ["Intent", "Journal", "Receipt", "Record", "Recorded", "Uncertain"]
