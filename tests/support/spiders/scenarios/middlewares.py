"""A user's middlewares that drop, answer, replace, break and swallow."""

from __future__ import annotations

import json
from typing import ClassVar

from scrapy.exceptions import IgnoreRequest
from scrapy.http import TextResponse

from tests.support.servers.web import (
    RESET,
    posts,
)
from tests.support.spiders.component import Component
from tests.support.spiders.requests import Reader

HERE = __name__


class Meddler(Component):
    """A middleware of both kinds that does what the request's meta says, once."""

    place = "inner"

    def told(self, request, *actions):
        action = request.meta.get(self.place)
        return action if action in actions else None

    def instead(self, request, **changes):
        """Another request, which is left alone."""
        meta = {key: value for key, value in request.meta.items() if key != self.place}
        return request.replace(meta=meta, **changes)

    def page(self, request, post):
        body = json.dumps({"posts": [{"post_id": post}], "links": []})
        return TextResponse(request.url, body=body, encoding="utf-8")

    def elsewhere(self, request):
        site = self.crawler.spider.site
        return self.instead(request, url=request.url.replace(site, site + "/for"))

    # -- as a downloader middleware --------------------------------------------------------------

    def process_request(self, request):
        action = self.told(request, "ignore", "break", "answer", "send elsewhere", "send again")
        if action == "ignore":
            raise IgnoreRequest("not this one")
        if action == "break":
            raise ValueError("on the way out")
        if action == "answer":
            return self.page(request, f"made by {self.place}")
        if action == "send elsewhere":
            return self.elsewhere(request)
        if action == "send again":
            return self.instead(request, dont_filter=True)
        return None

    def process_response(self, request, response):
        action = self.told(
            request, "ignore it", "break it", "change it", "go elsewhere", "go again"
        )
        if action == "ignore it":
            raise IgnoreRequest("not this answer")
        if action == "break it":
            raise ValueError("on the way in")
        if action == "change it":
            return self.page(request, f"changed by {self.place}")
        if action == "go elsewhere":
            return self.elsewhere(request)
        if action == "go again":
            return self.instead(request, dont_filter=True)
        return response

    def process_exception(self, request, exception):
        action = self.told(request, "make good", "try elsewhere", "try again")
        if action == "make good":
            return self.page(request, f"made good by {self.place}")
        if action == "try elsewhere":
            return self.elsewhere(request)
        if action == "try again":
            return self.instead(request, dont_filter=True)
        return None

    # -- as a spider middleware ------------------------------------------------------------------

    def process_spider_input(self, response):
        if self.told(response.request, "refuse"):
            raise ValueError("not this response")

    async def process_spider_output(self, response, result):
        action = self.told(response.request, "drop all", "keep one", "fail late", "add")
        if action == "drop all":
            return
        async for sent in result:
            yield sent
            if action == "keep one":
                return
            if action == "fail late":
                raise ValueError("in a middleware")
        if action == "add":
            yield {"post_id": f"added by {self.place}"}
            yield self.crawler.spider.get(f"/added/{self.place}", meta=response.meta)

    def process_spider_exception(self, response, exception):
        action = self.told(response.request, "swallow", "replace")
        if action == "swallow":
            return []
        if action == "replace":
            return [{"post_id": f"instead, by {self.place}"}]
        return None


class OuterMeddler(Meddler):
    """The same, closer to the engine than the plugin."""

    place = "outer"


_UNASKED = ("ignore", "break")
_FAILED = ("ignore it", "break it", "fail late", "refuse")
_ANSWERED = ("answer", "send elsewhere", "change it", "go again", "add", "make good", "try again")
_OPEN = (
    "send again", "go elsewhere", "drop all", "keep one", "try elsewhere", "swallow", "replace",
)  # fmt: skip


def _path(place, action):
    return f"/{place}/{action}".replace(" ", "-")


def _paths(*actions):
    return {_path(place, action): None for place in ("inner", "outer") for action in actions}


class Middlewares(Reader):
    """A user's middlewares that drop, answer, replace, break and swallow, on both sides of ours."""

    name = "middlewares"
    custom_settings: ClassVar = {
        "DOWNLOADER_MIDDLEWARES": {f"{HERE}.Meddler": 543, f"{HERE}.OuterMeddler": 5},
        "SPIDER_MIDDLEWARES": {f"{HERE}.Meddler": 543, f"{HERE}.OuterMeddler": 5},
        "RETRY_ENABLED": False,
    }
    paths: ClassVar = {
        _path(place, action): (place, action)
        for place in ("inner", "outer")
        for action in (*_UNASKED, *_FAILED, *_ANSWERED, *_OPEN)
    }
    pages: ClassVar = {
        **{path: posts(path + "#1", path + "#2") for path in paths},
        **{path + "/e": posts(path + "/e#1", path + "/e#2") for path in paths},
        **{"/for" + path: posts("for" + path) for path in paths},
        **{
            path: [RESET, posts(path)] for path in _paths("make good", "try elsewhere", "try again")
        },
        "/added/inner": posts("added 1"),
        "/added/outer": posts("added 2"),
    }
    again = frozenset(path + suffix for path in _paths(*_FAILED) for suffix in ("", "/e"))
    # What a middleware refuses and an errback deals with looks like a page that was done.
    either = frozenset(_paths(*_OPEN)) | {
        "/outer/make-good",
        "/outer/try-again",
        "/inner/refuse/e",
    }

    async def start(self):
        for path, (place, action) in self.paths.items():
            callback = self.raises if action in ("swallow", "replace") else self.parse
            yield self.get(path, callback, meta={place: action})
            if action in (*_UNASKED, *_FAILED):
                yield self.get(path + "/e", callback, meta={place: action}, errback=self.failed)

    def raises(self, response):
        self.note("raises", response)
        raise ValueError("in a callback")
