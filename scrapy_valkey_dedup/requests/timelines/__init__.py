"""Timelines that are read newest first: how far the next reading goes."""
