"""What engines of remote endpoints share: attempts, pauses, deadlines, limits, errors as words."""
