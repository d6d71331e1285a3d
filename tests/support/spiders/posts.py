"""Posts of every class, and the spider that reads them from the pages of a ``Site``."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import attrs
import pydantic
import scrapy
from itemadapter import ItemAdapter
from scrapy.utils.misc import load_object

from tests.support.spiders.component import until_told
from tests.support.spiders.jobs import Job

CLASSES = __name__


@dataclass
class Post:
    """A scraped post."""

    post_id: int | str
    text: str = ""
    duplicate: bool = False


@dataclass
class StoredPost:
    """What a later pipeline makes of a post."""

    identifier: int | str
    words: list[str] = field(default_factory=list)


class PostItem(scrapy.Item):
    """The same post as a Scrapy item."""

    post_id = scrapy.Field()
    text = scrapy.Field()


@attrs.define
class PostAttrs:
    """The same post as an attrs object, with slots."""

    post_id: int | str
    text: str = ""


class PostModel(pydantic.BaseModel):
    """The same post as a pydantic model."""

    post_id: int | str
    text: str = ""


KINDS = {
    "Post": Post,
    "dict": dict,
    "PostItem": PostItem,
    "PostAttrs": PostAttrs,
    "PostModel": PostModel,
}


class Posts(scrapy.Spider):
    """Reads the site's pages and yields their posts."""

    name = "posts"

    def __init__(self, job: Job) -> None:
        super().__init__(job.options.get("name"))
        self.job = job
        self.options = job.options

    async def parse_into_one(self, response):
        """Fills one object for all posts of a page, and fetches something for each in between."""
        item = self.item(response.json()[0])
        adapter = ItemAdapter(item)
        for values in response.json():
            await asyncio.sleep(0.002)
            adapter.update(values)
            yield item

    async def parse_with_one_author(self, response):
        """Fills one dict inside the items anew for each post."""
        author = {}
        for values in response.json():
            await asyncio.sleep(0.002)
            author["id"] = values["post_id"]
            yield {"post_id": values["post_id"], "author": author}

    async def start(self):
        if "items" in self.options:
            for values in self.options["items"]:
                yield self.item(values)
        pages = list(self.job.pages)
        if self.job.seed is not None:
            random.Random(self.job.seed).shuffle(pages)
        for number in pages:
            callback = getattr(self, self.options.get("callback", "parse"))
            yield scrapy.Request(f"{self.job.site}/{number}", callback)

    async def parse(self, response):
        for values in response.json():
            yield self.item(values)
            if "pace" in self.options:
                await asyncio.sleep(self.options["pace"])
        if self.options.get("linger"):
            await until_told(self.job.directory, "go")

    def item(self, values):
        kind = self.options.get("kind", "Post")
        return (KINDS.get(kind) or load_object(kind))(**values)


def identifier(item: Any) -> Any:
    """The post's id, whatever a pipeline has made of the item."""
    if isinstance(item, StoredPost):
        return item.identifier
    return ItemAdapter(item)["post_id"]
