"""Words, sentences and titles: what search, gates and the tier without a model read text by."""
