"""When requests are sent, and which wait: held pages, priorities, parked retries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from scrapy import signals
from scrapy.downloadermiddlewares.retry import get_retry_request

from tests.support.servers.web import (
    error,
    posts,
    redirect,
)
from tests.support.spiders.requests import Reader


class Held(Reader):
    """A page that a run holds, with ``options["hold"]`` until it is killed, and another page."""

    name = "held"
    pages: ClassVar = {"/held": posts("held"), "/free": posts("free")}

    async def start(self):
        yield self.get("/held", self.holds, priority=1)
        if not self.job.options.get("hold"):
            yield self.get("/free")

    async def holds(self, response):
        while self.job.options.get("hold"):
            await asyncio.sleep(0.05)
        return self.posts(response)


class Asking(Reader):
    """Asks for what ``options["asks"]`` says: paths, each with more arguments for the request.

    ``options``: ``copies``, whether links get the meta of their page; ``linger``, whether a
    callback waits until the test says go.
    """

    name = "asking"
    custom_settings: ClassVar = {"RETRY_TIMES": 1}

    async def start(self):
        for path, more in self.job.options["asks"]:
            errback = self.failed if more.pop("errback", False) else None
            yield self.get(path, errback=errback, **more)

    async def parse(self, response):
        self.note("parse", response)
        page = response.json()
        for post in page["posts"]:
            yield post
        copied = response.meta if self.job.options.get("copies") else None
        for link in page["links"]:
            yield self.get(link, meta=copied)
        while self.job.options.get("linger") and not self.told_to_go:
            await asyncio.sleep(0.01)

    @property
    def told_to_go(self) -> bool:
        return Path(self.job.directory, "go").exists()


class Lazy(Reader):
    """Asks for pages as Scrapy's docs show it: when there is nothing else to do."""

    name = "lazy"

    async def start(self):
        for path in ("/1", "/2", "/4"):
            if self.crawler.engine.needs_backout():
                await self.crawler.signals.wait_for(signals.scheduler_empty)
            yield self.get(path)

    def parse(self, response):
        yield from map(self.get, response.json()["links"])
        yield from self.posts(response)


class Urgent(Reader):
    """Many pages, sent at once, each of which leads to one that is urgent."""

    name = "urgent"

    async def start(self):
        for number in range(self.job.options["pages"]):
            yield self.get(f"/{number}")

    def parse(self, response):
        for link in response.json()["links"]:
            yield self.get(link, priority=10)
        yield from self.posts(response)


class Parked(Reader):
    """A retry, a redirect and a retry that a callback wants, all of which come last."""

    name = "parked"
    custom_settings: ClassVar = {
        "CONCURRENT_REQUESTS": 1,
        "RETRY_PRIORITY_ADJUST": -20,
        "REDIRECT_PRIORITY_ADJUST": -20,
    }
    pages: ClassVar = {
        "/flap": [error(500), posts("flap")],
        "/moved": redirect("/target"),
        "/target": posts("target"),
        "/soon": [posts(), posts("soon")],
        **{f"/{number}": posts(number, delay=0.03) for number in range(20)},
    }

    async def start(self):
        for number, path in enumerate(self.pages):
            if path != "/target":
                callback = self.when_ready if path == "/soon" else self.parse
                yield self.get(path, callback, priority=10 if number < 4 else 0)

    def when_ready(self, response):
        self.note("when_ready", response)
        found = self.posts(response)
        return found or get_retry_request(response.request, spider=self, reason="not ready")
