"""A site of posts on loopback, cheap enough to be no bottleneck.

``python -m bench.site PORT PAGES POSTS`` serves so many pages of so many posts each. ``/N`` is
page N, a JSON list of posts; every byte of it is made before the first request.
"""

from __future__ import annotations

import asyncio
import json
import sys

_TEXT = (
    "A post of some length, as people write them, with a few words to say and no more than that. "
)


def page(number: int, posts: int) -> bytes:
    """The HTTP response for a page."""
    first = number * posts
    body = json.dumps(
        [
            {
                "post_id": 10**15 + i,
                "platform": "bench",
                "author": f"user{i % 97}",
                "text": _TEXT * 2,
            }
            for i in range(first, first + posts)
        ]
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Protocol(asyncio.Protocol):
    def __init__(self, pages: list[bytes]) -> None:
        self._pages = pages
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            self._transport.write(self._pages[int(request.split(b" ", 2)[1].lstrip(b"/"))])


async def _main(port: int, pages: int, posts: int) -> None:
    ready = [page(number, posts) for number in range(pages)]
    server = await asyncio.get_running_loop().create_server(
        lambda: _Protocol(ready), "127.0.0.1", port
    )
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:4])))
