"""A small fediverse on this machine, to try the spiders on: ``python -m fediverse``."""
