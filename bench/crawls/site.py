"""A site of posts on loopback, so cheap that it is never the bottleneck.

``python -m bench.crawls.site PORT PAGES POSTS`` serves so many pages of so many posts each.
``/N`` is page N, a JSON list of posts; every byte of it is made before the first request.

With ``--lists`` it is a site to follow links in: ``/list/N`` is a list that links to pages, list by
list, and every page links to ``--links`` others that chance chose, the same in each run. A page is
then a JSON object of ``posts`` and ``links``. ``/counts`` tells how often each path was asked for,
and as ``at once`` how many requests were waiting for their answers at most, and begins anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

_TEXT = (
    "A post of some length, as people write them, with a few words to say and no more than that. "
)
_SEED = 3
COUNTS, AT_ONCE = "/counts", "at once"


def response(content: object) -> bytes:
    """The HTTP response that carries it as JSON."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def posts_of(number: int, posts: int) -> list[dict[str, Any]]:
    """The posts of a page."""
    first = number * posts
    return [
        {"post_id": 10**15 + i, "platform": "bench", "author": f"user{i % 97}", "text": _TEXT * 2}
        for i in range(first, first + posts)
    ]


def plain_site(pages: int, posts: int) -> dict[str, bytes]:
    """Pages without links: each path and its response."""
    return {f"/{number}": response(posts_of(number, posts)) for number in range(pages)}


def linked_site(pages: int, posts: int, links: int, lists: int, listed: int) -> dict[str, bytes]:
    """Lists and pages with links: each path and its response."""
    chance = random.Random(_SEED)
    site = {}
    for number in range(pages):
        others = [other for other in chance.sample(range(pages), links + 1) if other != number]
        content = {"posts": posts_of(number, posts), "links": others[:links]}
        site[f"/{number}"] = response(content)
    for number in range(lists):
        on_list = range(number * listed, min((number + 1) * listed, pages))
        site[f"/list/{number}"] = response({"posts": [], "links": list(on_list)})
    return site


class Site:
    """Answers requests, and counts them."""

    def __init__(self, pages: Mapping[str, bytes], delay: float) -> None:
        """``delay``: seconds before each answer."""
        self._pages = pages
        self._delay = delay
        self._waiting = 0
        self._counts: Counter[str] = Counter()

    def answer(self, path: str, transport: asyncio.Transport) -> None:
        """Answers one request."""
        if path == COUNTS:
            transport.write(response(self._counts))
            self._counts = Counter()
            return
        self._counts[path] += 1
        self._waiting += 1
        self._counts[AT_ONCE] = max(self._counts[AT_ONCE], self._waiting)
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._send, path, transport)
        else:
            self._send(path, transport)

    def _send(self, path: str, transport: asyncio.Transport) -> None:
        self._waiting -= 1
        transport.write(self._pages[path])


class _Protocol(asyncio.Protocol):
    def __init__(self, site: Site) -> None:
        self._site = site
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            self._site.answer(request.split(b" ", 2)[1].decode(), self._transport)


def counts(port: int) -> dict[str, int]:
    """What the site on ``port`` has counted since it was asked last."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{COUNTS}", timeout=10) as answer:
        found: dict[str, int] = json.load(answer)
    return found


async def serve(site: Site, port: int) -> None:
    """Says ``ready`` when it listens on loopback, and answers until it is killed."""
    server = await asyncio.get_running_loop().create_server(
        lambda: _Protocol(site), "127.0.0.1", port
    )
    print("ready", flush=True)
    await server.serve_forever()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("pages", type=int)
    parser.add_argument("posts", type=int, help="on a page")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds before each answer")
    parser.add_argument("--links", type=int, default=0, help="on a page, to other pages")
    parser.add_argument("--lists", type=int, default=0)
    parser.add_argument("--listed", type=int, default=0, help="pages on a list")
    given = parser.parse_args()
    pages = (
        linked_site(given.pages, given.posts, given.links, given.lists, given.listed)
        if given.lists
        else plain_site(given.pages, given.posts)
    )
    await serve(Site(pages, given.delay / 1000), given.port)


if __name__ == "__main__":
    asyncio.run(_main())
