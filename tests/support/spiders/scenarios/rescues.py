"""Callbacks that raise, and a spider middleware that recovers."""

from __future__ import annotations

from typing import ClassVar

from scrapy.downloadermiddlewares.retry import get_retry_request

from tests.support.servers.web import (
    posts,
)
from tests.support.spiders.component import Component
from tests.support.spiders.requests import Reader

HERE = __name__


class Rescuer(Component):
    """A spider middleware that recovers: with what the request's meta names, from any error."""

    def process_spider_exception(self, response, exception):
        rescue = response.meta.get("rescue")
        spider = self.crawler.spider
        if rescue == "item":
            return [{"post_id": f"instead of {spider.place(response.url)}"}]
        if rescue == "request":
            return iter([spider.get("/for" + spider.place(response.url))])
        if rescue == "if new":
            meta = {"dedup": "if_new"}
            place = spider.place(response.url)
            return [{"post_id": f"instead of {place}"}, spider.get("/for" + place, meta=meta)]
        if rescue == "again":  # as scrapy-poet does
            request = get_retry_request(response.request, spider=spider, reason="rescued")
            del request.meta["rescue"]
            return [request]
        return None


_RESCUED = {
    f"/{callback}/{rescue[:2]}": (callback, rescue)
    for callback in ("late", "at_once", "awaiting")
    for rescue in ("item", "request", "if new", "again")
}


class Rescued(Reader):
    """Callbacks that raise, of all kinds, and a spider middleware that recovers."""

    name = "rescued"
    custom_settings: ClassVar = {"SPIDER_MIDDLEWARES": {f"{HERE}.Rescuer": 543}}
    pages: ClassVar = {
        "/plain": posts("plain"),
        **{path: posts(path) for path in _RESCUED},
        **{f"/for{path}": posts(f"/for{path}") for path in _RESCUED},
    }
    again = frozenset(path for path in _RESCUED if not path.startswith("/at_once"))
    unstored = frozenset({"/at_once/re", "/for/late/if", "/for/awaiting/if"})

    async def start(self):
        yield self.get("/plain")
        for path, (callback, rescue) in _RESCUED.items():
            yield self.get(path, getattr(self, callback), meta={"rescue": rescue})

    def late(self, response):
        """Raises after it has yielded something."""
        self.note("late", response)
        yield from self.posts(response)
        if "rescue" in response.meta:
            raise ValueError("late")

    def at_once(self, response):
        """Raises before there is anything to iterate over."""
        self.note("at_once", response)
        if "rescue" in response.meta:
            raise ValueError("at once")
        return self.posts(response)

    async def awaiting(self, response):
        """Is asynchronous, and raises."""
        self.note("awaiting", response)
        for post in self.posts(response):
            yield post
        if "rescue" in response.meta:
            raise ValueError("awaiting")
