"""A real small instruct model on loopback: llama.cpp's server, one thread, one slot.

    .venv-models/bin/python benchmarks/small_model.py MODEL.gguf

It prints its address and serves until it is ended. `served()` runs that for a test or a benchmark.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".venv-models"
MODEL = HOME / "model.gguf"
CONTEXT_TOKENS = 8192


def serve(model: str) -> None:
    """Serve a model; one thread, for two that wait for each other are far slower than one."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel = CONTEXT_TOKENS, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


@contextmanager
def served(model: Path = MODEL, python: Path = HOME / "bin" / "python") -> Iterator[str]:
    """Yield the address of a server of its own process."""
    command = [str(python), __file__, str(model)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = next((line for line in server.stdout if line.startswith("http")), "")
            if not address:
                raise RuntimeError(f"{' '.join(command)} ended with {server.wait()}")
            yield address.strip()
        finally:
            server.kill()


def endpoints(address: str) -> str:
    """Return what NEMOFLOWS_ENDPOINTS declares the server with, as `near`."""
    near = {"dialect": "compatible", "base_url": f"{address}/v1", "usd_per_mtok": [0.01, 0.02]}
    return json.dumps({"near": near})


if __name__ == "__main__":
    serve(sys.argv[1])
