"""A site whose timelines grow: ``python -m bench.soak.site PORT PAGES POSTS SECONDS``.

``/N`` is page N. It shows three fifths of its ``POSTS`` at first, all of them after ``SECONDS``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping

from bench.crawls.site import Site, response, serve

_AT_FIRST = 0.6
_TEXT = "A post of some length, as people write them, with a few words to say. "


class GrowingPages(Mapping[str, bytes]):
    """The response for each path, as it is at this moment."""

    def __init__(self, pages: int, posts: int, seconds: float) -> None:
        self._pages, self._posts, self._seconds = pages, posts, seconds
        self._began = time.monotonic()

    def __getitem__(self, path: str) -> bytes:
        first = int(path.lstrip("/")) * self._posts
        posts = range(first, first + self._shown)
        return response([{"post_id": post, "text": f"{_TEXT} {post}"} for post in posts])

    def __iter__(self) -> Iterator[str]:
        return (f"/{number}" for number in range(self._pages))

    def __len__(self) -> int:
        return self._pages

    @property
    def _shown(self) -> int:
        grown = min((time.monotonic() - self._began) / self._seconds, 1)
        return round(self._posts * (_AT_FIRST + (1 - _AT_FIRST) * grown))


def main(port: int, pages: int, posts: int, seconds: float) -> None:
    """Serves it."""
    asyncio.run(serve(Site(GrowingPages(pages, posts, seconds), delay=0), port))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), float(sys.argv[4]))  # type: ignore[misc]
