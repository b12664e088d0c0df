"""Degradation: features that operators switch down, by level, in a document that is handed to `state.publish`."""
