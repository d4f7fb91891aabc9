"""The part of the sandbox that runs in the repository's own interpreter: standard library only."""
