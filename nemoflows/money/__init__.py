"""Prices, budgets, the ledger, GPU time and what a run saved: values and arithmetic alone."""
