"""What the library costs, beside hand-written floors and beside its peers: ``python -m benchmarks``."""
