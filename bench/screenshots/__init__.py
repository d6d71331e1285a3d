"""Pictures for the docs, made of what really runs: ``python -m bench.screenshots.NAME``."""
