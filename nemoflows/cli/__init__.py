"""The command `nemoflows`: looks at what is there, and pays for nothing."""
