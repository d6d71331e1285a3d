"""Imports posts, or the pages that another plugin remembers."""
