"""The public timeline of a Mastodon instance."""

import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import scrapy
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure
from w3lib.html import remove_tags, replace_entities

from posts.items import Post

# What an instance answers that shows its public timeline to its own users only: 401 or 422 by
# Mastodon's version, 403 from some front ends.
CLOSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY}


class MastodonSpider(scrapy.Spider):
    """Reads the public timeline of a Mastodon instance, the newest post first.

    ``-a instance=https://mastodon.example`` names the instance, ``-a pages=25`` how many pages of
    40 posts to read at most (10 by default; ``all`` sets no limit). A run ends where an earlier one
    has begun; ``-a full=yes`` reads on, and finds posts that came late, below newer ones.

    The API: https://docs.joinmastodon.org/methods/timelines/#public
    """

    name = "mastodon"

    def __init__(
        self, instance: str = "", pages: str = "10", full: str = "no", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.address = _read_instance(instance)
        self.instance = urlsplit(self.address).netloc
        self.allowed_domains = [urlsplit(self.address).hostname]
        self.pages = _read_pages(pages)
        # Of a next page: it is asked for unless a run before has read this instance from here on.
        self.next_meta = {"dedup": "if_new", "dedup_timeline": self.instance}
        if _read_full(full):
            self.next_meta = {}

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Ask for the newest posts."""
        # 40 is the most that Mastodon gives at once.
        newest = self._page(f"{self.address}/api/v1/timelines/public?limit=40", 1, {})
        # Whatever was seen of it before: as Scrapy sends start_urls.
        yield newest.replace(dont_filter=True)

    def parse(self, response: Response, number: int) -> Iterator[Post | scrapy.Request]:
        """Yield the posts of a page, and ask for the next one.

        Every page but the last, which is empty, has a ``Link`` to older posts.
        """
        statuses = self._read_page(response)
        self.crawler.stats.inc_value("mastodon/posts", len(statuses))
        for status in statuses:
            yield read_post(status, self.instance)
        older = next_page(response)
        if older and number < self.pages:
            yield self._page(response.urljoin(older), number + 1, self.next_meta)

    def failed(self, failure: Failure) -> None:
        """Say why a page could not be read, and end the crawl."""
        error = failure.value
        if not isinstance(error, HttpError):
            raise self._unreadable(str(error) or type(error).__name__)
        status = error.response.status
        reason = f"HTTP {status}: {_error_text(error.response)}"
        if status not in CLOSED:
            raise self._unreadable(reason)
        self.logger.error(
            "instance=%s shows its public timeline only to users who are logged in (%s): "
            "name an instance that shows it to everyone",
            *(self.address, reason),
        )
        raise CloseSpider("timeline_closed")

    def _page(self, url: str, number: int, meta: dict[str, Any]) -> scrapy.Request:
        return scrapy.Request(url, errback=self.failed, cb_kwargs={"number": number}, meta=meta)

    def _read_page(self, response: Response) -> list[dict[str, Any]]:
        try:
            statuses = json.loads(response.body)
        except ValueError:
            statuses = None
        if not isinstance(statuses, list):
            raise self._unreadable(f"{response.url} is not a list of posts")
        return statuses

    def _unreadable(self, reason: str) -> CloseSpider:
        self.logger.error(
            "instance=%s: its public timeline cannot be read (%s): "
            "run again later, or check that a Mastodon instance answers at this address",
            *(self.address, reason),
        )
        return CloseSpider("timeline_unreadable")


def read_post(status: dict[str, Any], instance: str) -> Post:
    """Make a post of a status, https://docs.joinmastodon.org/entities/Status/.

    A boost has a uri and a content of its own; the post is the one that was boosted.
    """
    status = status.get("reblog") or status
    return Post(
        uri=status["uri"],
        url=status.get("url"),
        account=_full_name(status["account"]),
        created_at=status["created_at"],
        text=read_text(status["content"]),
        language=status.get("language"),
        tags=[tag["name"] for tag in status.get("tags", ())],
        instance=instance,
    )


def read_text(html: str) -> str:
    """Return the text of a post's HTML, with a blank line between paragraphs.

    Links come out whole: Mastodon hides their ends by style, not by leaving them out,
    https://docs.joinmastodon.org/api/guidelines/#formatting.
    """
    text = re.sub(r"<br\b[^>]*>|</li>", "\n", html)
    text = re.sub(r"</(?:p|pre|blockquote|ul|ol)>", "\n\n", text)
    text = replace_entities(remove_tags(text))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def next_page(response: Response) -> str | None:
    """Return the target of the ``Link`` header with ``rel="next"`` (RFC 8288)."""
    links = b", ".join(response.headers.getlist("Link")).decode("latin-1")
    found = re.search(r'<([^<>]*)>[^<>]*;\s*rel="?next\b', links)
    return found[1] if found else None


def _full_name(account: dict[str, Any]) -> str:
    """Return user@domain: an instance leaves the domain of its own users out."""
    name: str = account["acct"]
    return name if "@" in name else f"{name}@{urlsplit(account['url']).hostname}"


def _error_text(response: Response) -> str:
    """Return why Mastodon refused: it answers ``{"error": "..."}``."""
    try:
        return str(json.loads(response.body)["error"])
    except (ValueError, TypeError, LookupError):
        return "no reason given"


def _read_instance(value: str) -> str:
    address = value.rstrip("/").lower()
    try:
        parts = urlsplit(address)
        # A port that is none raises where it is looked at.
        whole = parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    addresses = {f"http://{parts.netloc}", f"https://{parts.netloc}"} if whole else set()
    if address in addresses and "@" not in address:
        return address
    # A password, if there is one, stays out of the log.
    shown = re.sub("//[^/]*@", "//...@", value)
    raise ValueError(
        f"instance={shown!r} is not the address of an instance: "
        "give its scheme and host only, as in -a instance=https://mastodon.example"
    )


def _read_pages(value: str) -> float:
    if value == "all":
        return math.inf
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise ValueError(
        f"pages={value!r} is not a number of pages: "
        "give a whole number from 1, as in -a pages=25, or -a pages=all"
    )


def _read_full(value: str) -> bool:
    if value in {"yes", "no"}:
        return value == "yes"
    raise ValueError(f"full={value!r} is neither yes nor no: give -a full=yes, or leave it out")
