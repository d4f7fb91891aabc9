"""Chat completions at any address: the engine, the requests' translation, the dialects."""
