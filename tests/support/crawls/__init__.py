"""Starts crawls in processes of their own, and reads what they leave."""
