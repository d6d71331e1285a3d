"""Code that the verbs of `scrapy dedup` share."""
