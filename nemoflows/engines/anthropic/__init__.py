"""Claude: the Messages API one call at a time, and Message Batches at half the price."""
