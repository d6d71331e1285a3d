"""Checks the project and the server for `scrapy dedup doctor`."""
