"""Measurements that anyone can run again; each prints JSON lines."""
