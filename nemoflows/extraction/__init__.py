"""Typed extraction: records of a user's own model, each value with where it stands."""
