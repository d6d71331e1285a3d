"""Hours of faults in minutes: ``python -m bench.soak``. See ``docs/reliability.md``."""
