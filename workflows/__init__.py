"""What `pyflyte run` and `pyflyte register` take; the workflows are in `nemoflows.workflows`."""
