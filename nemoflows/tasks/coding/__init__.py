"""Tasks of the change flow."""
