"""Workflows to run, and to read as examples of wiring the tasks."""
