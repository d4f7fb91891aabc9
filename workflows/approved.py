"""What `pyflyte run workflows/approved.py answer_question_approved` takes."""

from nemoflows.workflows.approved import answer_question_approved

__all__ = ["answer_question_approved"]
