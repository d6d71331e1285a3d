"""Finds out the state of a ledger: contents, memory, runs, servers."""
