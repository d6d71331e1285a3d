"""Hours of trouble in minutes: ``python -m bench.soak``. See ``docs/reliability.md``."""
