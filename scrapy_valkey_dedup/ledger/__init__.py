"""What Valkey remembers, with the scripts that do it in ``lua/``."""
