"""A run's report: one HTML file, no external resource, readable without its script.

A report is made in two steps. The steps of a run note what they found (`ReportNotes`); `assemble`
adds what its journal holds: calls, costs, savings, attempts in doubt (`ReportData`). `render` fills
templates with that. A run that notes nothing has a report too: money, timeline and calls are
always there, whatever its steps are called.

Text of documents, models and tools is escaped by the templates and never interpreted, so links,
images and tags in it are inert.
"""

from nemoflows.reporting.assemble import assemble, notes_of
from nemoflows.reporting.data import ReportData, ReportNotes
from nemoflows.reporting.render import framed, render, write

__all__ = ["ReportData", "ReportNotes", "assemble", "framed", "notes_of", "render", "write"]
