"""A crawl with whatever reactor its job names, as ``scrapy crawl`` runs it."""

from __future__ import annotations

import json
import sys

from scrapy.crawler import CrawlerProcess

from tests.support.spiders.items import settings_of
from tests.support.spiders.jobs import Job
from tests.support.spiders.posts import Posts

if __name__ == "__main__":
    job = Job(**json.loads(sys.argv[1]))
    process = CrawlerProcess(settings_of(job))
    process.crawl(Posts, job=job)
    process.start()
    sys.exit(int(process.bootstrap_failed))
