"""Words, sentences and kinds of text, without a model."""
