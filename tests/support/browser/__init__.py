"""A real browser without a window, and pages in it."""
