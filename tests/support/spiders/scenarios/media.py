"""What pipelines and middlewares of Scrapy's own download beside the pages."""

from __future__ import annotations

from typing import ClassVar

import scrapy
from scrapy.pipelines.files import FilesPipeline

from tests.support.servers.web import (
    flapping,
    picture,
    posts,
    redirect,
    robots,
)
from tests.support.spiders.requests import STORE, Reader

HERE = __name__


def _with_files(post, *names):
    return {"post_id": str(post), "file_urls": [f"{{site}}{name}.png" for name in names]}


class Files(Reader):
    """Posts with files: shared, redirected, flapping, missing, and one that is a page as well."""

    name = "files"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 200, STORE: 300},
        "FILES_STORE": "files",
        "MEDIA_ALLOW_REDIRECTS": True,
    }
    pages: ClassVar = {
        "/": posts(_with_files(1, "/a"), _with_files(2, "/a"), links=["/more", "/more/2"]),
        "/more": posts(
            _with_files(3, "/a", "/b"), _with_files(4, "/moved"), _with_files(5, "/none")
        ),
        "/more/2": posts(_with_files(6, "/flap"), _with_files(7, "/a"), 8),
        "/a.png": picture(1),
        "/b.png": picture(2),
        "/moved.png": redirect("/c.png"),
        "/c.png": picture(3),
        "/flap.png": flapping(1, picture(4)),
    }
    starts = ("/",)
    unstored = frozenset({"/a.png"})

    async def start(self):
        yield self.get("/a.png", self.seen)
        async for request in super().start():
            yield request

    def seen(self, response):
        self.note("seen", response)


class FilesFirst(Files):
    """The same with the media pipeline where Scrapy's manual puts it: before all others."""

    name = "files_first"
    custom_settings: ClassVar = Files.custom_settings | {
        "ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1, STORE: 300}
    }


class CopiesMeta(FilesPipeline):
    """A media pipeline that hands on the meta of the page."""

    def get_media_requests(self, item, info):
        return [scrapy.Request(url, meta=item["meta"]) for url in item.get("file_urls", ())]


class FilesWithMeta(Files):
    """The same with a media pipeline whose requests have the meta of the page."""

    name = "files_with_meta"
    custom_settings: ClassVar = Files.custom_settings | {
        "ITEM_PIPELINES": {f"{HERE}.CopiesMeta": 200, STORE: 300}
    }

    def posts(self, response):
        for post in super().posts(response):
            yield {**post, "meta": response.meta}


class Images(Reader):
    """Two posts with the same image."""

    name = "images"
    custom_settings: ClassVar = {
        "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 200, STORE: 300},
        "IMAGES_STORE": "images",
    }
    pages: ClassVar = {"/": posts("1", "2", "3"), "/a.png": picture(1), "/b.png": picture(2)}
    starts = ("/",)

    def posts(self, response):
        for post in super().posts(response):
            name = "/b.png" if post["post_id"] == "3" else "/a.png"
            yield {**post, "image_urls": [self.site + name]}


class Robots(Reader):
    """A robots.txt that forbids pages, those that errbacks wait for as well."""

    name = "robots"
    # One by one: of several requests that wait for a robots.txt Scrapy asks it for the first only.
    custom_settings: ClassVar = {"ROBOTSTXT_OBEY": True, "CONCURRENT_REQUESTS": 1}
    pages: ClassVar = {
        "/robots.txt": robots("/private"),
        "/": posts("open", links=["/private/3", "/linked"]),
        "/linked": posts("linked"),
        "/moved": redirect("/private/4"),
        "/private/free": posts("free"),
    }
    starts = ("/", "/private/1", "/moved")
    either = frozenset({"/robots.txt", "/moved"})

    async def start(self):
        async for request in super().start():
            yield request
        yield self.get("/private/2", errback=self.failed)
        yield self.get("/private/free", meta={"dont_obey_robotstxt": True})
