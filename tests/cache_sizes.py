"""Start vLLM once per model folder with weights it makes up; its log says what its cache holds.

Run as a program of its own: every start leaves state behind in a process. One process for all
starts, because importing vLLM takes longer than starting it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(starts: list[dict[str, Any]]) -> None:
    """Start an engine per entry of `starts`, whose keys are engine arguments."""
    from vllm import LLM, logger
    from vllm.distributed import cleanup_dist_env_and_memory

    for arguments in starts:
        print("START", flush=True)
        logger._print_info_once.cache_clear()  # it says the same twice only to those who ask
        engine = LLM(load_format="dummy", dtype="bfloat16", enforce_eager=True, **arguments)
        engine.llm_engine.engine_core.shutdown()
        del engine
        cleanup_dist_env_and_memory()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
