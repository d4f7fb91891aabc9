"""One question over `DIR/docs` as a program of its own: python -m tests.models_flow MODEL DIR Q."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from nemoflows import rag
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.settings import Settings
from nemoflows.types import ModelRef


async def main(model: str, folder: Path, question: str) -> None:
    """Answer, and print the answer, its quotes and its calls."""
    settings = Settings()
    llm = LLMClient(Engines(settings), Journal(str(folder / "journal")), settings=settings)
    client = BoundClient(llm, ModelRef.model_validate(model))
    index = await rag.build_index(str(folder / "docs"), root=str(folder), llm=llm)
    try:
        passages = await rag.retrieve(question, index=index, k=3, llm=llm)
        await rag.extract(passages, client=client)
        (folder / "recorded").touch()
        found = await rag.research([question], index=index, client=client, k=3, hops=1)
        answer = await rag.synthesise(question, found, client=client)
    finally:
        llm.flush()
        await llm.aclose()
    calls = [{"purpose": c.purpose, "replayed": c.replayed} for c in llm.calls(answer.calls)]
    quotes = [piece.quote for finding in found for piece in finding.evidence]
    print(json.dumps({"text": answer.text, "quotes": quotes, "calls": calls}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
