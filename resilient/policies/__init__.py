"""The policies: one package each, with the same few files. None imports another."""
