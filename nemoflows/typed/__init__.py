"""Steps that return values of a user's own types: ask, classify, extract."""
