"""Starts crawls in processes, and reads what they leave."""
