"""Code that the verbs of `scrapy dedup` share. The folders group it by what it is for."""
