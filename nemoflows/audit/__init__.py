"""What a run cost, what it would have cost, and what quality was given up."""
