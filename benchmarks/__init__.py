"""The benchmark suite: ``python -m benchmarks`` from the root of the repository (see README.md)."""
