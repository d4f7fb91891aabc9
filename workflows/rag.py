"""What `pyflyte run workflows/rag.py answer_question` takes."""

from nemoflows.workflows.rag import answer_question

__all__ = ["answer_question"]
