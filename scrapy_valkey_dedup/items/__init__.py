"""The item pipeline: which posts are stored, and when they are known to be."""
