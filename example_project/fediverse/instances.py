"""Instances that speak Mastodon's API for the public timeline.

What they answer follows Mastodon's documentation and, where that is silent, its source:
https://docs.joinmastodon.org/methods/timelines/#public, app/controllers/api/base_controller.rb,
app/controllers/concerns/rate_limit_headers.rb, config/initializers/rack_attack.rb.
"""

import json
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

from fediverse.posts import Post, status

PATH = "/api/v1/timelines/public"
PAGE, LARGEST_PAGE = 20, 40
# The parameters that a link to another page repeats.
KEPT = ("local", "remote", "limit")
ROBOTS = b"User-agent: *\nDisallow: /media_proxy/\nDisallow: /interact/\n"
TRUE = {"1", "t", "true", "on"}


@dataclass(frozen=True, order=True)
class Shown:
    """A post in the timeline of an instance, ready to be sent."""

    number: int
    uri: str = field(compare=False)
    local: bool = field(compare=False)
    body: bytes = field(compare=False)


@dataclass
class Answer:
    """An HTTP response."""

    status: HTTPStatus
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class RateLimit:
    """So many requests in each period of the clock, for all clients together: they share an IP.

    Mastodon allows 300 in 5 minutes, https://docs.joinmastodon.org/api/rate-limits/.
    """

    limit: int = 300
    period: int = 300  # seconds
    _window: int = 0
    _count: int = 0

    def take(self) -> tuple[bool, dict[str, str]]:
        """Count a request; return whether it is allowed, and the headers that say so."""
        now = time.time()
        window = int(now) // self.period
        if window != self._window:
            self._window, self._count = window, 0
        self._count += 1
        reset = now + self.period - int(now) % self.period
        return self._count <= self.limit, {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - self._count)),
            "X-RateLimit-Reset": _iso8601(reset),
        }


class Instance:
    """One instance: its timeline, its limit, and a record of what it sent."""

    def __init__(
        self, domain: str, rate: RateLimit | None = None, closed: HTTPStatus | None = None
    ) -> None:
        self.domain = domain
        self.url = ""  # set while it is served
        self.pages = 0  # sent, those without posts too
        self.sightings = 0  # posts sent, each time counted
        self._rate = rate or RateLimit()
        self._closed = closed
        self.timeline: list[Shown] = []  # the oldest first

    @property
    def uris(self) -> set[str]:
        """The posts that the timeline shows, whether or not they were ever sent."""
        return {shown.uri for shown in self.timeline}

    def pages_in_full(self, limit: int = LARGEST_PAGE) -> int:
        """Count the pages from the newest post to the one without posts, where the links end."""
        pages, parameters = 1, {"limit": str(limit)}
        while page := self._page(parameters):
            parameters["max_id"] = str(page[-1].number)
            pages += 1
        return pages

    def publish(self, posts: Iterable[tuple[int, Post]]) -> None:
        """Add posts to the timeline, each under the number that this instance gives it."""
        timeline = self.timeline.copy()
        for number, post in posts:
            local = post.domain == self.domain
            body = json.dumps(status(post, number, self.domain), ensure_ascii=False).encode()
            insort(timeline, Shown(number, post.uri, local, body))
        # The server's thread sees either the old timeline or the new one.
        self.timeline = timeline

    def answer(self, path: str, query: str, host: str) -> Answer:
        """Answer a GET request."""
        if path == "/robots.txt":
            return Answer(HTTPStatus.OK, ROBOTS, {"Content-Type": "text/plain"})
        allowed, headers = self._rate.take()
        if not allowed:
            return _error(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests", headers)
        if path != PATH:
            return _error(HTTPStatus.NOT_FOUND, "Record not found", headers)
        if self._closed:
            return _error(self._closed, "This method requires an authenticated user", headers)
        parameters = dict(parse_qsl(query))
        page = self._page(parameters)
        self.pages += 1
        self.sightings += len(page)
        if page:
            headers["Link"] = _links(f"http://{host}{PATH}", parameters, page)
        body = b"[" + b",".join(shown.body for shown in page) + b"]"
        return Answer(HTTPStatus.OK, body, headers)

    def _page(self, parameters: Mapping[str, str]) -> list[Shown]:
        """Return the posts that a request asks for, the newest first."""
        timeline = self.timeline
        if parameters.get("local") in TRUE:
            timeline = [shown for shown in timeline if shown.local]
        if parameters.get("remote") in TRUE:
            timeline = [shown for shown in timeline if not shown.local]
        size = min(_whole(parameters.get("limit"), PAGE), LARGEST_PAGE)
        end = len(timeline)
        if "max_id" in parameters:
            end = bisect_left(timeline, _bound(parameters["max_id"]))
        if "min_id" in parameters:
            begin = bisect_right(timeline, _bound(parameters["min_id"]))
            return timeline[begin : min(begin + size, end)][::-1]
        begin = 0
        if "since_id" in parameters:
            begin = bisect_right(timeline, _bound(parameters["since_id"]))
        return timeline[max(begin, end - size) : end][::-1]


def _whole(text: str | None, default: int) -> int:
    """Read a number as Ruby's to_i does: what is none counts as 0."""
    if text is None:
        return default
    return int(text) if text.isdecimal() else 0


def _bound(number: str) -> Shown:
    return Shown(_whole(number, 0), "", local=False, body=b"")


def _links(url: str, parameters: Mapping[str, str], page: list[Shown]) -> str:
    kept = {name: parameters[name] for name in KEPT if name in parameters}
    older = urlencode({**kept, "max_id": page[-1].number})
    newer = urlencode({**kept, "min_id": page[0].number})
    return f'<{url}?{older}>; rel="next", <{url}?{newer}>; rel="prev"'


def _error(code: HTTPStatus, text: str, headers: dict[str, str]) -> Answer:
    return Answer(code, json.dumps({"error": text}).encode(), headers)


def _iso8601(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
