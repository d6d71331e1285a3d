"""Makes the page of `scrapy dedup report`: its data, its words, and the page itself."""
