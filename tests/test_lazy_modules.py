"""flytekit leaves modules half loaded; several threads use ours at once all the same.

TEST_TIMES says how often.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

AT_ONCE = """
import sys, threading
from pathlib import Path
import flytekit
from tests.test_search import embed, write
from nemoflows.search import build_index, open_index

assert type(sys.modules["pyarrow"]).__name__ == "_LazyModule", "else this shows nothing"
folder, start, failed = Path(sys.argv[1]), threading.Barrier(8), []
rows = {"rows.csv": "title,text\\nEel,A fish.\\n", "table.parquet": ""}
for number in range(8):
    write(folder / f"c{number}", {"a.txt": f"The puffin number {number} nests.", **rows})
    (folder / f"c{number}" / "table.parquet").write_bytes((folder / "table.parquet").read_bytes())

def work(number):
    start.wait()
    try:
        vectors = {"embed": embed, "embedder": "words"} if number % 2 else {}
        index = build_index(str(folder / f"c{number}"), str(folder / f"r{number}"), **vectors)
        found = open_index(index)
        assert found.search("puffin") and index.n_documents == 3, index
    except BaseException as error:
        failed.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for one in threads: one.start()
for one in threads: one.join()
failed += [name for name, one in sys.modules.items() if type(one).__name__ == "_LazyModule"]
sys.exit(failed[0] if failed else 0)
"""


@pytest.mark.parametrize("attempt", range(int(os.environ.get("TEST_TIMES", "2"))))
def test_eight_threads_use_lazily_loaded_modules_at_once(attempt: int, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"title": ["Cod"], "text": [f"Dried {attempt}."]}), tmp_path / "table.parquet"
    )
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
