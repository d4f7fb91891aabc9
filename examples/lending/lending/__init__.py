"""A small library's client: loans, due dates, fines."""
