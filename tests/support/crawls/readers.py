"""A project whose crawls run first with another plugin, then with this one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.processes.dedup_command import Ended, dedup, environment
from tests.support.processes.scrapy_command import scrapy
from tests.support.servers.site import Site, pages_of

SPIDER = """
import scrapy


class Reader(scrapy.Spider):
    name = "{name}"
    custom_settings = {{"VALKEY_DEDUP_FIELDS": ["post_id"]}}

    async def start(self):
        yield scrapy.Request(self.url + "/0", dont_filter=True)

    def parse(self, response):
        for number in self.numbers.split():
            yield response.follow("/" + number, self.parse_post)

    def parse_post(self, response):
        yield from response.json()
"""


class Reader:
    """A project with one spider, and the site that it reads: page 0 links to those that are asked.

    Each page has one post.
    """

    def __init__(self, directory: Path, spider: str = "reader") -> None:
        self.directory = directory
        self.spider = spider
        self.site = Site(pages_of(range(8), 1))
        (directory / "scrapy.cfg").write_text("[settings]\ndefault = reader.settings\n")
        (directory / "reader").mkdir()
        (directory / "reader" / "__init__.py").write_text("")
        (directory / "reader" / "spiders.py").write_text(SPIDER.format(name=spider))

    def write(self, text: str = "", **settings: Any) -> None:
        """Writes the project's settings: Python, and names with values."""
        given = {"BOT_NAME": "reader", "SPIDER_MODULES": ["reader.spiders"], **settings}
        lines = "".join(f"{name} = {value!r}\n" for name, value in given.items())
        (self.directory / "reader" / "settings.py").write_text(lines + text)

    def crawl(self, *options: str, numbers: Iterable[int]) -> list[int]:
        """Runs a crawl; returns the pages that it has fetched, but for the first."""
        self.site.served.clear()
        command = ["crawl", self.spider, "-o", "posts.jl", *options]
        given = {"url": self.site.url, "numbers": " ".join(map(str, numbers))}
        for name, value in given.items():
            command += ["-a", f"{name}={value}"]
        ended = scrapy(
            *command, folder=self.directory, environment=environment(), place=self.directory
        )
        assert ended.returncode == 0, ended.stderr
        return sorted(set(self.site.served) - {0})

    def dedup(self, *given: str) -> Ended:
        """Runs `scrapy dedup` there, which must end well."""
        ended = dedup(*given, directory=self.directory)
        assert ended.code == 0, ended.err
        return ended
