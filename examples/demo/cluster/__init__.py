"""The second act: the same call through a cluster of replicas, while an operator steers it."""
