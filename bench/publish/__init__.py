"""Writes what the benchmarks found into the docs: ``python -m bench.publish``."""
