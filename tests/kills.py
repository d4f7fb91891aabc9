"""Kill builds at random instants: `python -m tests.kills CORPUS ROOT N` prints what came of them.

Every build runs in a forked child of one process that has the libraries loaded and has never
used them, so that twenty kills take seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from nemoflows.search import build_index, open_index

QUERY = "word7 word19 word180 common"


def child(corpus: str, root: str, result: Path) -> int:
    """Build in a forked process; return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            index = build_index(corpus, root)
            found = [(p.id, p.text, p.score) for p in open_index(index).search(QUERY, 20)]
            result.write_text(json.dumps([index.corpus_hash, index.n_indexed, found]), "utf-8")
        finally:
            os._exit(0)
    return pid


def whole(corpus: str, root: str, result: Path) -> list[object]:
    """Build to the end; return hash, number of documents read and what a search finds."""
    os.waitpid(child(corpus, root, result), 0)
    found: list[object] = json.loads(result.read_text("utf-8"))
    return found


def main() -> None:
    """Print one JSON line: the unkilled build, then per kill the build that followed."""
    import fsspec.implementations.local  # noqa: F401 - loaded once, for all children

    corpus, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    result = folder / "result.json"
    started_s = time.monotonic()
    clean = whole(corpus, str(folder / "clean"), result)
    took_s = time.monotonic() - started_s
    draws = random.Random(7)
    after = []
    for number in range(n):
        root = str(folder / str(number))
        result.unlink(missing_ok=True)
        pid = child(corpus, root, result)
        time.sleep(draws.uniform(0, took_s))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        served = [path for path in Path(root).glob("indexes/[!.]*") if not _whole(path)]
        after.append([*whole(corpus, root, result), len(served)])
    print(json.dumps({"clean": clean, "after": after}))


def _whole(folder: Path) -> bool:
    return (folder / "manifest.json").exists()


if __name__ == "__main__":
    main()
