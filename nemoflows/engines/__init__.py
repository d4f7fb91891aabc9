"""Ways to reach models: one module per SDK or kind, one abstract class for all."""
