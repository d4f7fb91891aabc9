"""The change flow as steps: from an issue and a repository to a tested patch.

    examine(task) → plan_change → propose n → run_tests → repair, r rounds at most
      → escalate → select → review

`steps` has those that ask models and `testing` those that run tests, as async functions from a
change to the change a step further. Every model call goes through the client and every test run
through the sandbox, each recorded before anything reads it.
"""
