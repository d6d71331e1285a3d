"""Forgets posts, or whole parts of a namespace."""
