"""The request filter: which pages are fetched, by which run, and when they are done."""
