"""Fake nodes, played by kwok: for local clusters, tests and benchmarks."""
