"""A real HTTP site on loopback. The test says what is where; the site counts what is downloaded."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import TypeAlias


@dataclass(frozen=True)
class Asked:
    """What a spider has asked for; ``path`` includes the query."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass(frozen=True)
class Reply:
    """An answer. ``{site}`` and ``{other}`` in body and headers are the site's two addresses."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    """Seconds before it is sent."""
    reset: bool = False
    """The connection is cut instead."""
    until: threading.Event | None = None
    """It is not sent before that is set."""


Route: TypeAlias = Reply | Sequence[Reply] | Callable[[Asked], Reply]
"""A reply; several, given in turn, the last forever; or a function that makes one."""

LATE = float(os.environ.get("LATE_REPLIES", "0"))
"""Seconds by which a reply is late at most, by chance. So a test that depends on which page is
answered first fails sooner or later; on a busy machine it would, too."""

RESET = Reply(reset=True)
MISSING = Reply(b"not here", 404)


def posts(
    *ids: int | str | Mapping[str, object],
    links: Iterable[str] = (),
    delay: float = 0,
    **more: object,
) -> Reply:
    """A page of posts and links, as JSON. A post is its id, or all its fields."""
    listed = [post if isinstance(post, Mapping) else {"post_id": str(post)} for post in ids]
    body = json.dumps({"posts": listed, "links": list(links), **more}).encode()
    return Reply(body, headers={"Content-Type": "application/json"}, delay=delay)


def redirect(to: str, status: int = 302) -> Reply:
    """A redirect by status."""
    return Reply(b"", status, {"Location": to})


def refresh(to: str) -> Reply:
    """A redirect by an HTML page."""
    body = f'<html><head><meta http-equiv="refresh" content="0; url={to}"></head></html>'
    return Reply(body.encode(), headers={"Content-Type": "text/html"})


def error(status: int, delay: float = 0) -> Reply:
    """An error."""
    return Reply(f"error {status}".encode(), status, {"Content-Type": "text/plain"}, delay)


def flapping(times: int, then: Reply, fault: Reply | None = None) -> list[Reply]:
    """A fault so many times (a 500, if none is given), then the reply."""
    return [fault or error(500)] * times + [then]


def robots(*disallowed: str) -> Reply:
    """A robots.txt."""
    lines = ["User-agent: *", *(f"Disallow: {path}" for path in disallowed)]
    return Reply("\n".join(lines).encode(), headers={"Content-Type": "text/plain"})


def picture(red: int = 200, green: int = 0, blue: int = 0) -> Reply:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(bytes([0, red, green, blue])))
    body = b"\x89PNG\r\n\x1a\n" + header + pixel + chunk(b"IEND", b"")
    return Reply(body, headers={"Content-Type": "image/png"})


def gzip_bomb(size: int) -> Reply:
    """A small body that unpacks to so many bytes."""
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    return Reply(gzip.compress(bytes(size)), headers=headers)


class Web:
    """Serves routes from a thread until it is closed.

    ``served`` counts by path; a method other than GET stands before it: ``"POST /search"``.
    """

    def __init__(self, routes: Mapping[str, Route], *, keep_alive: bool = True) -> None:
        """Starts to serve.

        Without ``keep_alive`` no connection is used twice; Scrapy's client repeats by itself what
        was cut on a connection that had been used before.
        """
        self.routes = dict(routes)
        self._keep_alive = keep_alive
        self.served: Counter[str] = Counter()
        self._port = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def other(self) -> str:
        """Its address under another name."""
        return f"http://localhost:{self._port}"

    def close(self) -> None:
        """Stops serving, and cuts what is open."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Web:  # noqa: PYI034 (Self needs Python 3.11)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=512)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()  # asyncio.run cancels the conversations

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A spider that goes, or is killed, is no news here.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(await _read(reader), writer):
                    pass
        finally:
            writer.close()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        name = asked.path if asked.method == "GET" else f"{asked.method} {asked.path}"
        self.served[name] += 1
        reply = self._reply(asked, name)
        await asyncio.sleep(reply.delay + LATE * random.random())
        while reply.until is not None and not reply.until.is_set():
            await asyncio.sleep(0.002)
        if reply.reset:
            writer.transport.abort()
            return False
        body = self._filled(reply.body)
        headers = {"Content-Length": str(len(body)), **reply.headers}
        if not self._keep_alive:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
        writer.write(self._filled(head) + (b"" if asked.method == "HEAD" else body))
        await writer.drain()
        return self._keep_alive

    def _reply(self, asked: Asked, name: str) -> Reply:
        route = self.routes.get(name, MISSING)
        if isinstance(route, Reply):
            return route
        if callable(route):
            return route(asked)
        return route[min(self.served[name], len(route)) - 1]

    def _filled(self, text: bytes) -> bytes:
        filled = text.replace(b"{site}", self.url.encode())
        return filled.replace(b"{other}", self.other.encode())


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, body, headers)
