"""A run's report: one HTML file, no external resource, readable without its script.

Documents' and models' text is escaped and never interpreted, so links, images and tags in it are
inert. `values` is what it shows, `sources` what was found and where, `money` what it cost and would
have cost, `calls` when each call was made and at what price, `render` the page as a whole.
"""

from nemoflows.page.render import framed, render
from nemoflows.page.values import Context, Page, Story, context

__all__ = ["Context", "Page", "Story", "context", "framed", "render"]
