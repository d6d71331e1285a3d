"""Scrapy settings of this project: https://docs.scrapy.org/en/latest/topics/settings.html."""

BOT_NAME = "posts"
SPIDER_MODULES = ["posts.spiders"]
NEWSPIDER_MODULE = "posts.spiders"

# Each post is stored once, whichever spider sees it, in this run or in a later one. The spiders of
# this machine share a small Valkey server that starts and stops with them. A fleet on several
# machines adds one line, VALKEY_DEDUP_URL, with the address of the Valkey that it shares, such as
# "valkeys://posts.example.cache.amazonaws.com:6379".
ADDONS = {"scrapy_valkey_dedup.Addon": 500}
VALKEY_DEDUP_FIELDS = ["uri"]
VALKEY_DEDUP_SCOPE = "project"  # a uri is the same post in every spider

# Mastodon allows an address 300 requests in five minutes, so one a second never meets the limit.
ROBOTSTXT_OBEY = True
CONCURRENT_REQUESTS_PER_DOMAIN = 1
DOWNLOAD_DELAY = 1
DOWNLOADER_MIDDLEWARES = {
    "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
    "posts.middlewares.PatientRetryMiddleware": 550,
}

POSTS_DATABASE = "posts.sqlite"
ITEM_PIPELINES = {"posts.pipelines.SQLitePipeline": 300}
FEEDS = {"feeds/%(name)s/%(instance)s/%(time)s.jsonl": {"format": "jsonlines"}}
FEED_EXPORT_ENCODING = "utf-8"

EXTENSIONS = {"posts.extensions.StatsFile": 500}
TELNETCONSOLE_ENABLED = False
