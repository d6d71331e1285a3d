"""The site of the crawl tests: numbered pages of posts, served as fast as the test allows."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Any

from tests.support.patience import PATIENCE
from tests.support.servers.http import Handler, HttpServer


class Site(HttpServer):
    """Pages of posts: ``/N`` is page N as a JSON list, ``posts`` of them on each."""

    def __init__(self, pages: dict[int, list[dict[str, Any]]]) -> None:
        self.pages = pages
        self.served: Counter[int] = Counter()
        self._free: float = inf
        self._freed = threading.Condition()
        self._waiting = 0

        class Pages(Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N802, N805 (http.server's name; self is the site)
                number = int(handler.path.lstrip("/"))
                self._wait_for_leave()
                self.served[number] += 1
                body = json.dumps(self.pages[number]).encode()
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

        super().__init__(Pages)

    @property
    def free(self) -> float:
        """So many more requests are answered; the next ones wait until there are more."""
        return self._free

    @free.setter
    def free(self, requests: float) -> None:
        with self._freed:
            self._free = requests
            self._freed.notify_all()

    @property
    def kept_waiting(self) -> float:
        """How many requests wait until there are more."""
        with self._freed:
            return max(0, self._waiting - self._free)

    def _wait_for_leave(self) -> None:
        with self._freed:
            self._waiting += 1
            try:
                if not self._freed.wait_for(lambda: self._free >= 1, 10 * PATIENCE):
                    raise TimeoutError("the test lets no more be served")
                self._free -= 1
            finally:
                self._waiting -= 1


def pages_of(posts: Iterable[int | str], size: int = 20) -> dict[int, list[dict[str, Any]]]:
    """Spreads posts over pages."""
    listed = [{"post_id": post, "text": f"post {post}"} for post in posts]
    return {start // size: listed[start : start + size] for start in range(0, len(listed), size)}
