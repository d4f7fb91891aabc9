"""Repair without a model: small mutations of suspicious lines, judged by the tests."""
