"""The one way to a model: replay or ask, price, record, check."""
