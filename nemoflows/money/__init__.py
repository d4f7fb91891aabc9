"""Prices, budgets, the ledger, what a run saved: pure functions over calls."""
