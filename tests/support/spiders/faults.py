"""What runs in the processes of the fault tests: a spider that does as its pages say."""

from __future__ import annotations

import asyncio
from pathlib import Path

from scrapy import signals
from scrapy.core.scheduler import Scheduler
from scrapy.dupefilters import BaseDupeFilter
from scrapy.exceptions import DontCloseSpider, IgnoreRequest

from scrapy_valkey_dedup import DupeFilter
from tests.support.spiders.component import Component, until_told
from tests.support.spiders.requests import Reader
from tests.support.spiders.timelines import Timelines

HERE = __name__


class Pages(Reader):
    """Stores the posts of pages and follows their links, the first one first.

    Begins with ``options["starts"]``, past the filter. A page says itself what else is to be done:
    ``ways`` tells for some of its links how they are requested, ``again`` has a copy of its request
    sent, ``detail`` has a path downloaded in the callback.
    """

    name = "pages"
    allowed_domains = ("127.0.0.1",)

    async def start(self):
        for path in self.job.options.get("starts", ["/"]):
            yield self.get(path, dont_filter=True)

    async def parse(self, response):
        self.note("parse", response)
        page = response.json()
        for post in page["posts"]:
            yield post
        for number, link in enumerate(page["links"]):
            yield self.get(link, **{"priority": -number, **page.get("ways", {}).get(link, {})})
        if page.get("again"):
            copy = response.request.replace(dont_filter=True, callback=self.once_more)
            self.crawler.engine.crawl(copy)
        if page.get("detail"):
            request = self.get(page["detail"], meta=dict(response.meta))
            self.note("downloaded", await self.crawler.engine.download_async(request))

    def once_more(self, response):
        self.note("again", response)


class Anywhere(Pages):
    """May leave the site."""

    name = "anywhere"
    allowed_domains = ()


class ManyRounds(Timelines):
    """Reads a timeline again when it has had nothing to do for a while: ``/0``, then ``/1``..."""

    name = "many_rounds"
    round = 0
    pause = None

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.idle, signals.spider_idle)
        return spider

    async def start(self):
        yield self.begin()

    def begin(self):
        request = self.get(f"/{self.round}", dont_filter=True)
        self.round += 1
        return request

    def idle(self):
        # Also where a next page is not decided yet, or what was met not written down.
        if self.pause is not None:
            self.pause.cancel()
            self.pause = None
        if self.round < self.job.options["rounds"]:
            loop = asyncio.get_running_loop()
            self.pause = loop.call_later(0.5, self.go_on)
            raise DontCloseSpider

    def go_on(self):
        self.crawler.engine.crawl(self.begin())


class Remembers(DupeFilter):
    """A user's filter that keeps its own list, and looks there first."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.urls = set()

    def request_seen(self, request):
        if request.url in self.urls:
            return True
        self.urls.add(request.url)
        return super().request_seen(request)


class NotOpened(DupeFilter):
    """A user's filter that opens itself alone."""

    def open(self):
        self.urls = set()


class NotBuilt(DupeFilter):
    """A user's filter that builds itself alone."""

    @classmethod
    def from_crawler(cls, crawler):
        return cls(fingerprinter=crawler.request_fingerprinter)


class Unfiltered(Scheduler):
    """A scheduler that does not ask the filter."""

    def open(self, spider):
        self.df = BaseDupeFilter()
        return super().open(spider)


class Gate:
    """A user's downloader middleware that looks at ``/slow`` for a while, and refuses it."""

    async def process_request(self, request):
        if request.url.endswith("/slow"):
            await asyncio.sleep(0.2)
            raise IgnoreRequest("not wanted")


class Waits(Component):
    """A pipeline in which the post "late" waits for the test, others for a moment."""

    async def process_item(self, item):
        directory = Path(self.crawler.spider.job.directory)
        if item["post_id"] == "late":
            (directory / "waiting").touch()
            await until_told(directory, "go")
        await asyncio.sleep(0.01)
        return item
