"""A run's report: one HTML file, no external resource, readable without its script.

Documents' and models' text is escaped and never interpreted, so links, images and tags in it are
inert. `values` is what it shows, `sources` what was found and where, `money` what it cost and would
have cost, `calls` when each call was made and at what price, `render` the page as a whole.
"""

from nemoflows.page.calls import table as calls_section
from nemoflows.page.render import document, framed, render
from nemoflows.page.values import Context, Page, Story, context

__all__ = ["Context", "Page", "Story", "calls_section", "context", "document", "framed", "render"]
