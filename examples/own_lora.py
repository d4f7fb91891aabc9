"""Research with a fine-tune of your own: a LoRA adapter of the efficient model, in this process.

    python examples/own_lora.py MODEL ADAPTER DIR "How long is the Elbe?"

MODEL is a hub id or a folder, ADAPTER a folder that PEFT's save_pretrained wrote. Both make up the
model's spelling, so that the journal and the cost line tell a fine-tune from its base and one
training from the next. NEMOFLOWS_FRONTIER names who gets what the fine-tune cannot answer.
"""

import sys

from nemoflows import Answer, ModelRef
from nemoflows.tasks import POLICY
from nemoflows.workflows.rag import answer_question


def ask(model: str, adapter: str, folder: str, question: str) -> Answer:
    """Return the answer, after printing it with its sources, its cost and its report."""
    own = ModelRef.model_validate(f"vllm:{model}+{adapter}")
    policy = POLICY.model_copy(update={"efficient": own})
    answer: Answer = answer_question(question=question, corpus=folder, policy=policy).answer
    return answer


# vLLM's processes import this module too, so that only the first one may ask.
if __name__ == "__main__":
    for citation in ask(*sys.argv[1:5]).citations:
        print(citation.model_dump_json())
