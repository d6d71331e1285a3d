"""Callbacks of every kind."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from tests.support.servers.web import (
    posts,
    redirect,
)
from tests.support.spiders.requests import Reader


class Callbacks(Reader):
    """Callbacks of every kind, and what they do with the request that they were called for."""

    name = "callbacks"
    pages: ClassVar = {
        f"/{name}": posts(name)
        for name in (
            "nothing", "none", "an_item", "a_list", "a_request", "a_generator", "waits",
            "waits_for_nothing", "generates", "many", "raises", "raises_late", "raises_later",
            "takes_arguments", "downloads", "hands_meta_on", "hands_request_on", "clears_meta",
            "sends_itself", "polls", "dropped", "refused", "dropped_some",
        )
    } | {
        f"/child/{number}": posts(f"child {number}") for number in range(1, 12)
    } | {
        "/detail": posts("detail"),
        "/polled": [posts(ready=False), posts(ready=False), posts("polled", ready=True)],
    }  # fmt: skip
    again = frozenset({"/raises", "/raises_late", "/raises_later", "/refused"})
    either = frozenset({"/polled"})
    unstored = frozenset({
        "/nothing", "/none", "/waits_for_nothing", "/a_request", "/dropped", "/dropped_some",
        "/downloads", "/detail",
    })  # fmt: skip

    async def start(self):
        for page in self.pages:
            if not page.startswith(("/child", "/detail", "/polled", "/takes")):
                name = page[1:] if hasattr(self, page[1:]) else "parse"
                yield self.get(page, getattr(self, name))
        yield self.get("/polled", self.polls)
        yield self.get("/takes_arguments", self.takes_arguments, cb_kwargs={"post": "argument"})

    def nothing(self, response):
        self.note("nothing", response)
        yield from ()

    def none(self, response):
        self.note("none", response)

    def an_item(self, response):
        self.note("an_item", response)
        return self.posts(response)[0]

    def a_list(self, response):
        self.note("a_list", response)
        return [*self.posts(response), {"post_id": "listed"}, self.get("/child/1"), None]

    def a_request(self, response):
        self.note("a_request", response)
        return self.get("/child/2")

    async def waits(self, response):
        await asyncio.sleep(0.05)
        self.note("waits", response)
        return self.posts(response)

    async def waits_for_nothing(self, response):
        await asyncio.sleep(0.05)
        self.note("waits_for_nothing", response)

    async def generates(self, response):
        self.note("generates", response)
        for post in self.posts(response):
            await asyncio.sleep(0.05)
            yield post
        await asyncio.sleep(0.05)

    def many(self, response):
        self.note("many", response)
        return ({"post_id": f"many {number}"} for number in range(300))

    def raises(self, response):
        self.note("raises", response)
        raise ValueError("before it yields")

    def raises_late(self, response):
        self.note("raises_late", response)
        yield from self.posts(response)
        yield self.get("/child/3")
        raise ValueError("after it has yielded")

    async def raises_later(self, response):
        self.note("raises_later", response)
        for post in self.posts(response):
            yield post
        await asyncio.sleep(0.05)
        raise ValueError("after a while")

    def takes_arguments(self, response, post):
        self.note("takes_arguments", response)
        response.cb_kwargs["post"] = "changed"
        yield {"post_id": post}

    async def downloads(self, response):
        """Downloads in the callback, past the scheduler."""
        self.note("downloads", response)
        detail = await self.crawler.engine.download_async(self.get("/detail"))
        self.note("downloaded", detail)

    def hands_meta_on(self, response):
        """The most common of all ways to tell the next callback something."""
        self.note("hands_meta_on", response)
        yield self.get("/child/4", meta=response.meta, dont_filter=True)
        yield self.get("/child/5", meta=response.meta)
        yield self.get("/child/6", self.raises, meta=response.meta.copy(), dont_filter=True)
        yield from self.posts(response)

    def hands_request_on(self, response):
        self.note("hands_request_on", response)
        url = self.site + "/child/"
        yield response.request.replace(url=url + "7", callback=self.parse, dont_filter=True)
        yield response.request.replace(url=url + "8", callback=self.raises, dont_filter=True)
        yield response.request.replace(url=url + "9", callback=self.parse)
        yield response.follow("/child/10", self.parse, meta=response.meta)
        yield from self.posts(response)

    def clears_meta(self, response):
        self.note("clears_meta", response)
        response.meta.clear()
        yield from self.posts(response)

    def sends_itself(self, response):
        """The filter knows it."""
        self.note("sends_itself", response)
        yield response.request
        yield from self.posts(response)

    def polls(self, response):
        self.note("polls", response)
        if not response.json().get("ready", True):
            yield response.request.replace(dont_filter=True)
        yield from self.posts(response)

    def dropped_some(self, response):
        self.note("dropped_some", response)
        return [{"post_id": "not dropped"}, {"post_id": "dropped, this one"}]


class Inline(Reader):
    """Callbacks that download in the middle, with the meta of their response, and with its URL."""

    name = "inline"
    pages: ClassVar = {
        "/a": posts("a"),
        "/b": posts("b"),
        "/b/detail": posts("b, detail"),
        "/moved": redirect("/c"),
        "/c": posts("c"),
    }

    async def start(self):
        yield self.get("/a", self.downloads_itself)
        yield self.get("/b", self.downloads_detail)
        yield self.get("/moved", self.downloads_itself)

    async def downloads_itself(self, response):
        self.note("downloads_itself", response)
        for request in (response.request, response.request.copy(), response.request):
            self.note("again", await self.crawler.engine.download_async(request))
        return self.posts(response)

    async def downloads_detail(self, response):
        self.note("downloads_detail", response)
        request = self.get("/b/detail", meta=response.meta)
        detail = await self.crawler.engine.download_async(request)
        self.note("detail", detail)
        return [*self.posts(response), *self.posts(detail)]
