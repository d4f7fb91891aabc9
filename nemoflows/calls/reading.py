"""Reading a reply's JSON, and finding a quote where it stands."""

from __future__ import annotations

import json
import re
from typing import Any

from nemoflows.calls.values import Reply, well_formed_json
from nemoflows.errors import BadReply
from nemoflows.types import Evidence, Passage

SHOWN = 5
"""Wrong items of a reply that an error names; the model needs no more to see what is meant."""


def locate(quote: str, passage: Passage | None) -> Evidence | None:
    """Return where a quote stands in a passage, white space aside; None where it does not.

    The quote that is returned is the document's own.
    """
    words = quote.split()
    if passage is None or not words:
        return None
    exact, loose = re.escape(quote), r"\s+".join(map(re.escape, words))
    # Whole words first: the 2 of "2 pieces" is not the one inside 2041.
    tries = (rf"(?<!\w){exact}(?!\w)", exact, rf"(?<!\w){loose}(?!\w)", loose)
    found = (re.search(pattern, passage.text) for pattern in tries)
    match = next((each for each in found if each is not None), None)
    if match is None:
        return None
    start, end = match.span()
    return Evidence(
        quote=passage.text[start:end],
        document=passage.document,
        start=passage.start + start,
        end=passage.start + end,
        passage=passage.id,
        heading=passage.heading,
    )


def field(reply: Reply, name: str, kind: type) -> Any:
    """Return one field of a reply's JSON object.

    Raises:
        BadReply: The reply is no such object.
    """
    try:
        # Some servers leave control characters in.
        content = well_formed_json(json.loads(reply.text, strict=False))
    except (ValueError, RecursionError) as error:
        raise BadReply(f"The reply is not JSON: {error}.") from error
    if not isinstance(content, dict) or not isinstance(content.get(name), kind):
        raise BadReply(f"The reply must be an object with {name!r} as a {kind.__name__}.")
    return content[name]
