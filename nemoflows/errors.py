"""Everything nemoflows raises.

The first split is the one Flyte acts on: a transient error may go away, a
terminal one will come back until somebody changes something.

    NemoflowsError
    ├── TransientError            Flyte's ``retries`` apply (FlyteRecoverableException)
    │   ├── RateLimited           the endpoint refused for now, retries inside the call used up
    │   └── EndpointDown          nothing answered at the address, or the answer broke off
    └── TerminalError
        ├── BadInput              an argument, a corpus or a setting is wrong
        │   └── CorpusError       the corpus is missing, empty or unreadable
        ├── BadModel              unknown endpoint or model, missing key or extra
        │   └── NoGpu             the tier runs in process and there is no GPU for it
        ├── BadReply              a reply was paid for and could not be used
        ├── OverBudget            the call cannot fit the budget
        └── TooManyFailures       more items of a batch failed than the caller allows
"""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that reorder what stands beside them."""
_LINE_ENDS = re.compile("[\t\n\u2028\u2029]")


def printable(text: str) -> str:
    """Return `text` as a terminal can show it without obeying it."""
    return _CONTROLS.sub("\ufffd", text)


def one_line(text: str) -> str:
    """Return a name, or other text from outside, as it can be shown within one line."""
    return _LINE_ENDS.sub("\ufffd", printable(text))


class NemoflowsError(Exception):
    """Say what was tried with its numbers, what came back, and what to do.

    Built from one message, so that it pickles and crosses a pod's border.
    """

    def __init__(self, message: str) -> None:
        self.message = printable(message)
        super().__init__(self.message)


class TransientError(NemoflowsError):
    """May go away by itself: worth another attempt of the pod."""


class RateLimited(TransientError):
    """The endpoint refused for now, and kept refusing."""


class EndpointDown(TransientError):
    """Nothing answered at the endpoint's address, or the answer broke off."""


class TerminalError(NemoflowsError):
    """Comes back at every attempt until somebody changes something."""


class BadInput(TerminalError):
    """An argument or a setting is wrong; nothing was spent."""


class CorpusError(BadInput):
    """The corpus is missing, empty or unreadable."""


class BadModel(TerminalError):
    """The endpoint or the model is unknown, or its key or extra is missing."""


class NoGpu(BadModel):
    """The model runs in process and this task or machine has no GPU."""


class BadReply(TerminalError):
    """A reply was paid for, recorded, and could not be used."""


class OverBudget(TerminalError):
    """The call cannot fit the budget, even when everything in flight is settled."""


class TooManyFailures(TerminalError):
    """More items of a batch failed than the caller allows; the others are kept."""
