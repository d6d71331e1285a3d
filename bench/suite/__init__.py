"""All benchmarks in one run: ``python -m bench.suite``; docs/benchmarks.md has what they found."""
