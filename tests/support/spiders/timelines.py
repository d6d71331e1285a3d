"""What runs in the processes of the timeline tests: spiders that read newest first, and a storage.

They are started by :func:`tests.support.spiders.requests.crawl`;
:mod:`tests.support.crawls.timelines` makes their sites.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import scrapy
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.http import JsonRequest

from tests.support.spiders.component import Component, until_told
from tests.support.spiders.requests import Reader
from tests.support.spiders.storages import FileStore, SettledByHand

HERE = __name__


class Timelines(Reader):
    """Reads timelines: each page leads to the one with older posts.

    A page says itself how it is read: its ``name`` begins with "named" for a named timeline;
    ``options`` is the meta of its next page, if it is another; ``fail`` makes the callback fail
    afterwards, ``close`` closes the spider. A page that is not JSON is busy, and asked for again.
    """

    name = "timelines"

    async def start(self):
        for path in self.job.options["timelines"]:
            yield self.get(path, dont_filter=True)

    def parse(self, response):
        if not response.text.startswith("{"):
            yield self.once_more(response)
            return
        page = response.json()
        yield from (post for post in page["posts"] if post.get("fate") != "skip")
        for link in page["links"]:
            yield self.get(link, self.parse_other)
        yield from self.older(page)
        if page.get("fail"):
            raise ValueError("a change of the page's layout")
        if page.get("close"):
            raise CloseSpider("enough")

    def once_more(self, response):
        retry = get_retry_request(response.request, spider=self, reason="busy")
        if retry is None:
            raise OSError("it stays busy")
        return retry

    def older(self, page):
        if page.get("older"):
            yield self.get(page["older"], meta=self.options(page))

    def options(self, page) -> dict[str, Any]:
        if "options" in page:
            return page["options"]
        named = {"dedup_timeline": page["name"]} if page["name"].startswith("named") else {}
        return {"dedup": "if_new", **named}

    def parse_other(self, response):
        yield from response.json()["posts"]


class ByHand(Timelines):
    """Asks for a busy page once more by hand, in the way that the path names: ``/named-new-...``.

    Begins, if ``options["pages"]`` says so, with these pages, each of which is a timeline's.
    """

    name = "by_hand"

    async def start(self):
        async for request in super().start():
            yield request
        for path in self.job.options.get("pages", ()):
            if path.startswith("POST"):
                yield JsonRequest(self.site + path[5:], data={"word": "a"})
            else:
                yield self.get(path)

    def once_more(self, response):
        name = response.url.rpartition("/")[2].partition("?")[0]
        way = getattr(self, "by_" + name.split("-")[1])
        return way(response, name)

    def by_new(self, response, _):
        return scrapy.Request(response.url, self.parse, dont_filter=True)

    def by_follow(self, response, _):
        return response.follow("#more", self.parse, dont_filter=True)

    def by_other(self, response, _):
        """With another callback and with arguments."""
        arguments = {"number": 2}
        return self.get(response.url, self.again, dont_filter=True, cb_kwargs=arguments)

    def again(self, response, number):
        assert number == 2
        return self.parse(response)

    def by_meta(self, response, _):
        return self.get(response.url, meta=response.meta, dont_filter=True)

    def by_replace(self, response, _):
        return response.request.replace(dont_filter=True)

    def by_itself(self, response, _):
        response.request.dont_filter = True
        return response.request

    def by_options(self, response, name):
        """With the meta that it gives each next page."""
        return self.get(response.url, meta=self.options({"name": name}), dont_filter=True)

    def by_first(self, response, _):
        """By the address that has redirected."""
        return self.get(response.meta["redirect_urls"][0], dont_filter=True)

    def by_post(self, response, _):
        return JsonRequest(response.url, data={"word": "a"}, dont_filter=True)


class Cursors(Timelines):
    """A header, and no address, tells the pages of its timelines apart."""

    name = "cursors"

    async def start(self):
        for path in self.job.options["timelines"]:
            yield self.get(path, dont_filter=self.job.options["past_the_filter"])

    def older(self, page):
        if page.get("older"):
            headers = {"X-Cursor": page["older"]}
            path = page["older"].partition("?")[0]
            yield self.get(path, headers=headers, meta=self.options(page), dont_filter=True)


class NextFirst(Timelines):
    """The next page comes first, the posts one by one."""

    async def parse(self, response):
        page = response.json()
        for request in self.older(page):
            yield request
        for post in page["posts"]:
            await asyncio.sleep(0)
            yield post


class OtherTimelines(Timelines):
    """Another spider that reads the same."""

    name = "other_timelines"


class FromStart(Timelines):
    """Sends all its pages from ``start()``, each with the options."""

    async def start(self):
        for path in self.job.options["timelines"]:
            yield self.get(path, meta=self.options({"name": path[1:]}))

    def older(self, page):
        return ()


class Details(Timelines):
    """Its pages link to the posts; the meta of a page goes on to them, but for the options."""

    def parse(self, response):
        page = response.json()
        meta = {key: value for key, value in response.meta.items() if key != "dedup"}
        for post in page["posts"]:
            yield post
            link = f"/details?{post['post_id']}"
            yield self.get(link, self.parse_other, meta=dict(meta))
        yield from self.older(page)


class Rounds(Timelines):
    """Reads its timelines again and again, each time that the test says so."""

    async def start(self):
        for number in range(self.job.options["rounds"]):
            await until_told(self.job.directory, f"go-{number}")
            async for request in super().start():
                yield request


class News(Reader):
    """Reads lists of links to pages of posts.

    A page says itself how it is read: ``fail`` makes the callback fail after all. ``options``:
    ``starts``; ``exempt``, paths that are asked for with ``meta={"dedup": False}``.
    """

    name = "news"

    async def start(self):
        for path in self.job.options.get("starts", ["/list"]):
            yield self.request(path)

    def parse(self, response):
        page = response.json()
        yield from page["posts"]
        for link in page["links"]:
            yield self.request(link)
        if page.get("fail"):
            raise ValueError("a change of the page's layout")

    def request(self, path):
        exempt = path in self.job.options.get("exempt", ())
        return self.get(path, meta={"dedup": False} if exempt else None)


class OtherNews(News):
    """Another spider that reads the same."""

    name = "other_news"


class Storage(FileStore):
    """Keeps the posts of its crawl.

    A post says itself what is its ``fate``: "refuse" fails, "drop" is dropped, "hold" is stored
    when the test says so. So do the options of these names, for posts with these ids.
    """

    def meets(self, fate, item):
        job = self.crawler.spider.job
        return item.get("fate") == fate or item.get("post_id") in job.options.get(fate, ())

    def refuses(self, item):
        return self.meets("refuse", item)

    def line(self, item):
        return item.get("post_id")

    async def process_item(self, item):
        if self.meets("hold", item):
            directory = Path(self.crawler.spider.job.directory)
            (directory / "holding").touch()
            await until_told(directory, "go")
        if self.meets("drop", item):
            raise DropItem("not wanted")
        return await super().process_item(item)


class ManualStorage(SettledByHand, Storage):
    """Stores all at the end, and settles each claim itself."""


class DropsEarly(Component):
    """A pipeline before the plugin's, which drops posts whose fate it is."""

    def process_item(self, item):
        if item.get("fate") == "drop_early":
            raise DropItem("not wanted")
        return item
