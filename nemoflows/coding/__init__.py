"""The change flow as steps: from an issue and a repository to a tested patch.

    snapshot(repo) → examine(task) → plan_change → propose n → run_tests each
      → repair ≤ r rounds → escalate → select → review → patch

`steps` has those that ask models, `trials` those that run tests, `choose` the end, as async
functions over typed values. Every model call goes through the door, and every test run through the
sandbox, each recorded before anything reads it.
"""
