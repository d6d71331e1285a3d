"""Dumps a ledger into a file, and loads it again."""
