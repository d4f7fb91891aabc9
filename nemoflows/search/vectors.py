"""The dense leg: a LanceDB table of unit vectors, searched exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.errors import BadModel
from nemoflows.storage.loading import load_lazy_modules

_TABLE = "vectors"


def require_lancedb() -> None:
    """Refuse where LanceDB is not installed, before anything is read or embedded.

    Raises:
        BadModel: It is not installed; the message names the extra.
    """
    load_lazy_modules()
    try:
        import lancedb  # noqa: F401
    except ImportError as error:
        raise BadModel(
            f"An index with vectors needs lancedb, which cannot be imported ({error}). "
            "pip install 'nemoflows[dense]' ([vectors] is enough where an endpoint embeds), or "
            "leave the embedder empty for the lexical search alone."
        ) from error


def write(uri: str, parts: Iterable[NDArray[np.float32]], *, n_dimensions: int) -> None:
    """Write the vectors of all passages, in the order of the passages.

    Args:
        uri: Folder of the database.
        parts: Arrays of shape (passages, dimensions), one after the other.
        n_dimensions: Length of each vector.
    """
    import lancedb
    import pyarrow as pa

    schema = pa.schema(
        [pa.field("row", pa.int64()), pa.field("vector", pa.list_(pa.float32(), n_dimensions))]
    )
    reader = pa.RecordBatchReader.from_batches(schema, _batches(parts, schema, n_dimensions))
    lancedb.connect(uri).create_table(_TABLE, data=reader, schema=schema)


def _batches(parts: Iterable[NDArray[np.float32]], schema: Any, n: int) -> Iterator[Any]:
    import pyarrow as pa

    row = 0
    for part in parts:
        flat = pa.array(np.ascontiguousarray(part, dtype=np.float32).reshape(-1))
        rows = pa.array(range(row, row + len(part)), pa.int64())
        vectors = pa.FixedSizeListArray.from_arrays(flat, n)
        yield pa.RecordBatch.from_arrays([rows, vectors], schema=schema)
        row += len(part)


class Dense:
    """The table, opened in place."""

    def __init__(self, uri: str) -> None:
        require_lancedb()
        import lancedb

        self._table: Any = lancedb.connect(uri).open_table(_TABLE)

    def best(
        self, vector: NDArray[np.float32], depth: int, live: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the rows and similarities of the nearest passages that count, nearest first.

        Args:
            vector: The query's.
            depth: How many at most.
            live: By row whether a passage counts; None where all do.
        """
        asked = depth
        while True:
            query = self._table.search(vector).distance_type("dot").bypass_vector_index()
            found = query.limit(asked).select(["row", "_distance"]).to_arrow()
            rows = found["row"].to_numpy()
            similarities = 1 - found["_distance"].to_numpy().astype(np.float64)
            counts = np.ones(len(rows), bool) if live is None else live[rows]
            if counts.sum() >= depth or len(rows) < asked:
                break
            asked *= 4  # those that do not count stood in the way
        rows, similarities = rows[counts], similarities[counts]
        order = np.lexsort((rows, -similarities))[:depth]
        return rows[order], similarities[order]
