"""Run what a model wrote where it can do no harm: named levels, clean copies, hard limits.

Everything in `inside` uses the standard library alone: the interpreter that runs a repository's
tests is the repository's own, and has none of our packages.
"""
