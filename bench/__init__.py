"""Benchmarks: each compares in one run and prints ratios. ``python -m bench.NAME`` starts one."""
