"""Posts of the fediverse, each stored once, however many instances show it."""
