"""A site that flaps, errors of HTTP and of the network, and what errbacks do with them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from scrapy import signals
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.exceptions import StopDownload

from tests.support.servers.web import (
    RESET,
    error,
    flapping,
    gzip_bomb,
    posts,
    redirect,
)
from tests.support.spiders.requests import REFUSED, Reader


class Retries(Reader):
    """A site that flaps; pages that never come; retries that a callback asks for."""

    name = "retries"
    custom_settings: ClassVar = {"RETRY_TIMES": 2}
    pages: ClassVar = {
        "/500": flapping(2, posts("500")),
        "/reset": flapping(2, posts("reset"), RESET),
        "/late": [posts("too late", delay=4), posts("late")],
        "/hop": flapping(1, redirect("/hop/1")),
        "/hop/1": flapping(1, posts("hop")),
        "/page": flapping(1, posts("page", links=["/500", "/linked"]), error(503)),
        "/linked": flapping(2, posts("linked"), error(504)),
        "/gone": error(503),
        "/gone/silently": error(503),
        "/cut": RESET,
        "/cut/silently": RESET,
        "/once": error(500),
        "/soon": [posts(ready=False), posts(ready=False), posts("soon", ready=True)],
        "/never": posts(ready=False),
        "/turned": [posts(ready=False), error(404)],
        "/later": [posts(ready=False), error(500), posts("later", ready=True)],
    }
    starts = ("/500", "/reset", "/hop", "/page", "/gone/silently", "/cut/silently")
    again = frozenset({"/gone", "/gone/silently", "/cut", "/cut/silently", "/once", "/turned"})
    either = frozenset({"/never", "/soon", "/later"})

    async def start(self):
        async for request in super().start():
            yield request
        yield self.get("/gone", errback=self.failed)
        yield self.get("/cut", errback=self.failed)
        yield self.get("/once", errback=self.failed, meta={"dont_retry": True})
        yield self.get("/late", meta={"download_timeout": 1})
        for path in ("/soon", "/never", "/later", "/turned"):
            yield self.get(path, self.when_ready)

    def when_ready(self, response):
        self.note("when_ready", response)
        if not response.json()["ready"]:
            return get_retry_request(response.request, spider=self, reason="not ready")
        return self.posts(response)


class Failures(Reader):
    """Errors of HTTP and of the network, with errbacks of every kind and without."""

    name = "failures"
    custom_settings: ClassVar = {"RETRY_ENABLED": False}
    handle_httpstatus_list = (418,)
    pages: ClassVar = {
        "/404": error(404),
        "/403": error(403),
        "/500": error(500),
        "/500/errback": error(500),
        "/418": error(418),
        "/410": error(410),
        "/slow": posts("too late", delay=4),
        "/cut": RESET,
        "/big": posts(*range(1000)),
        "/bomb": gzip_bomb(1_000_000),
        "/stopped": posts("never"),
        "/stopped/well": posts("stopped"),
        "/ok": posts("ok"),
        "/second": [error(404), posts("second")],
        "/found": posts("found"),
        "/found/2": posts("found/2"),
        "/found/3": posts("found/3"),
    }
    starts = ("/404", "/500", "/418", "/ok", REFUSED + "/silently", "gopher://127.0.0.1/silently")
    again = frozenset({
        "/404", "/403", "/500", "/500/errback", "/slow", "/cut", "/big", "/bomb", "/stopped",
        "/returned", "/raising", "/raising/2", "/waiting", "/generating", "/sending", "/ok",
    })  # fmt: skip
    either = frozenset({"/second"})
    unstored = frozenset({"/418", "/410", "/stopped/well"})

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.headers_received, signals.headers_received)
        return spider

    def headers_received(self, request):
        if request.url.endswith("/stopped"):
            raise StopDownload(fail=True)
        if request.url.endswith("/stopped/well"):
            raise StopDownload(fail=False)

    async def start(self):
        async for request in super().start():
            yield request
        failing = ("/403", "/cut", "/500/errback", REFUSED, "gopher://127.0.0.1/", "/stopped")
        for path in failing:
            yield self.get(path, errback=self.failed)
        yield self.get("/410", self.seen, meta={"handle_httpstatus_list": [410]})
        yield self.get("/stopped/well", self.seen)
        yield self.get("/slow", errback=self.failed, meta={"download_timeout": 1})
        yield self.get("/big", errback=self.failed, meta={"download_maxsize": 1000})
        yield self.get("/bomb", errback=self.failed, meta={"download_maxsize": 100_000})
        yield self.get("/sending", errback=self.sends)
        yield self.get("/second", errback=self.asks_again)
        yield self.get("/returned", errback=self.returns_it)
        yield self.get("/raising", errback=self.raises)
        yield self.get("/raising/2", errback=self.raises_late)
        yield self.get("/waiting", errback=self.waits)
        yield self.get("/generating", errback=self.generates)

    def parse(self, response):
        if response.status == 418:
            return self.seen(response)
        return super().parse(response)

    def seen(self, response):
        self.note("seen", response)

    def sends(self, failure):
        self.note_failure(failure)
        yield {"post_id": "from an errback"}
        yield self.get("/found", meta=failure.request.meta)
        yield self.get("/ok", meta=failure.request.meta, dont_filter=True)
        yield failure.request  # the filter knows it

    def asks_again(self, failure):
        self.note_failure(failure)
        yield failure.request.replace(dont_filter=True, errback=self.failed)

    def returns_it(self, failure):
        self.note_failure(failure)
        return failure

    def raises(self, failure):
        self.note_failure(failure)
        raise ValueError("in an errback")

    def raises_late(self, failure):
        self.note_failure(failure)
        yield {"post_id": "before it raised"}
        raise ValueError("in an errback, later")

    async def waits(self, failure):
        await asyncio.sleep(0.05)
        self.note_failure(failure)
        return [{"post_id": "after a while"}, self.get("/found/2", meta=failure.request.meta)]

    async def generates(self, failure):
        self.note_failure(failure)
        await asyncio.sleep(0.05)
        yield {"post_id": "one by one"}
        yield self.get("/found/3", meta=failure.request.meta.copy())
