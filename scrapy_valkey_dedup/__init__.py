"""Deduplicates scraped posts across spiders, processes and runs, with Valkey as the memory."""

__version__ = "0.1.0"
