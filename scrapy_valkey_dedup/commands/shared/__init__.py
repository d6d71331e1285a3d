"""What the verbs of `scrapy dedup` share."""
