"""Ask a folder with Nemotron on a vLLM server of your own; no key, nothing leaves your network.

    vllm serve nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 --reasoning-parser nemotron_v3
    python examples/vllm_server.py DIR "How long is the Elbe?" http://localhost:8000/v1

Both tiers are the one model here: what it does not find is then not asked a second time. Name a
larger one as `frontier` to escalate.
"""

import json
import os
import sys

from nemoflows import Answer, Policy
from nemoflows.workflows.rag import answer_question

MODEL = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def ask(folder: str, question: str, url: str, model: str = MODEL) -> Answer:
    """Return the answer, after printing it with its sources, its cost and its report."""
    mine = {"dialect": "vllm-server", "base_url": url, "usd_per_mtok": [0.05, 0.2]}
    os.environ["NEMOFLOWS_ENDPOINTS"] = json.dumps({"mine": mine})
    policy = Policy.model_validate({"efficient": f"mine:{model}", "frontier": f"mine:{model}"})
    answer: Answer = answer_question(question=question, corpus=folder, policy=policy).answer
    return answer


if __name__ == "__main__":
    print(len(ask(*sys.argv[1:]).citations), "citations")
