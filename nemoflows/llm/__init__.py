"""The one way to ask a model: replay or call, price, record, check."""
