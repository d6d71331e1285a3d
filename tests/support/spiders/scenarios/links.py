"""Pages that link to each other, by links, forms and start URLs; and what is exempt."""

from __future__ import annotations

import json
from typing import ClassVar

import scrapy
from scrapy.exceptions import CloseSpider
from scrapy.http import FormRequest, JsonRequest

from tests.support.servers.web import (
    Asked,
    Reply,
    posts,
    redirect,
)
from tests.support.spiders.requests import Reader


class Links(Reader):
    """Pages that link to each other, and to themselves.

    Whichever page is answered first, each URL is spelled first as it is here: a page that spells it
    otherwise comes after it.
    """

    name = "links"
    starts = ("/", "/", "/1")
    pages: ClassVar = {
        "/": posts("0", links=["/1", "/2", "/3", "/"]),
        "/1": posts("1", links=["/", "/2"]),
        "/2": posts(links=["/4?b=1&a=2", "/4?a=2&b=1"]),
        "/3": posts("3", "3b", links=["/3#fragment"]),
        "/4?b=1&a=2": posts("4", links=["/1"]),
    }


class StartUrls(Reader):
    """``start_urls``, which Scrapy's own ``start()`` sends past the filter."""

    name = "start_urls"
    pages: ClassVar = {"/a": posts("a", links=["/b"]), "/b": posts("b", links=["/a"])}
    again = frozenset({"/a"})
    start = scrapy.Spider.start

    def __init__(self, job):
        super().__init__(job)
        self.start_urls = [self.site + "/a", self.site + "/a"]


class Posting(Reader):
    """POST requests, which their body tells apart."""

    name = "posting"

    @staticmethod
    def _search(asked: Asked) -> Reply:
        word = json.loads(asked.body)["word"]
        return posts(word, links=["/linked"])

    @staticmethod
    def _form(asked: Asked) -> Reply:
        return posts(asked.body.decode())

    pages: ClassVar = {
        "POST /search": _search.__func__,
        "POST /form": _form.__func__,
        "POST /moved": redirect("/got", 302),
        "POST /kept": redirect("/search", 307),
        "/got": posts("got"),
        "/linked": posts("linked"),
        "/form": posts("form by GET"),
    }

    async def start(self):
        for word in ("a", "b", "b", "c"):
            yield JsonRequest(self.site + "/search", data={"word": word})
        for number in (1, 2, 2):
            yield FormRequest(self.site + "/form", formdata={"number": str(number)})
        yield self.get("/form")
        yield FormRequest(self.site + "/moved", formdata={"number": "1"})
        yield JsonRequest(self.site + "/kept", data={"word": "d"})


class Exempt(Reader):
    """Requests that are none of the ledger's business."""

    name = "exempt"
    custom_settings: ClassVar = {"VALKEY_DEDUP_REQUESTS_MATCH": [r"/post/\d", "/kept$"]}
    pages: ClassVar = {
        "/": posts("0", links=["/post/1", "/post/2", "/kept", "/kept/not"]),
        "/post/1": posts("1"),
        "/post/2": posts("2"),
        "/post/3": posts("3"),
        "/post/4": posts("4", links=["/post/1"]),
        "/kept": posts("kept"),
        "/kept/not": posts("kept not"),
    }
    starts = ("/",)
    again = frozenset({"/", "/post/3", "/post/4", "/kept/not"})

    async def start(self):
        async for request in super().start():
            yield request
        for _ in range(2):
            yield self.get("/post/3", dont_filter=True)
            yield self.get("/post/4", meta={"dedup": False})


class Tree(Reader):
    """Forty pages, each of which leads to others. ``options["close"]``: the page that ends it."""

    name = "tree"
    custom_settings: ClassVar = {"CONCURRENT_REQUESTS": 4}
    pages: ClassVar = {
        f"/{number}": posts(
            number,
            links=[f"/{other % 40}" for other in range(2 * number, 2 * number + 3)],
            delay=0.02,
        )
        for number in range(40)
    }

    async def start(self):
        for path in self.pages if self.job.options.get("starts") == "all" else ["/1"]:
            yield self.get(path)

    def parse(self, response):
        yield from super().parse(response)
        if response.url.endswith(self.job.options.get("close", "never")):
            raise CloseSpider("enough")


class Sessions(Reader):
    """Pages whose URLs have the number of a session in them, another one in each run."""

    name = "sessions"
    pages: ClassVar = {
        f"/{page}?session={number}": posts(page) for page in ("a", "b") for number in (1, 2)
    }

    async def start(self):
        for page in ("a", "b", "a"):
            yield self.get(f"/{page}?session={self.job.options['session']}")
