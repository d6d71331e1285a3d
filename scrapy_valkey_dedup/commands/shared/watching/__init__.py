"""Watches a fleet live: its runs with their rates, and how the ledger is."""
