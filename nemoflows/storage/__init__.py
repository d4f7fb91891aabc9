"""Files by name: on a local disk or in an object store, whole or not at all."""
