"""A small library's desk: loans, due dates, fines."""
