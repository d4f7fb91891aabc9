"""Ways to reach models: one module per SDK or kind, one protocol for all."""
