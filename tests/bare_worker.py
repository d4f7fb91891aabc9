"""A reader's process in a half installed environment: what reads PDFs is missing."""

import sys

from nemoflows.search import workers

if __name__ == "__main__":
    sys.modules["pypdfium2"] = None  # type: ignore[assignment]
    workers.main()
