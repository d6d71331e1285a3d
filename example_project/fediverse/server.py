"""Serves instances over HTTP/1.1 on 127.0.0.1, on ports that the system gives."""

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

from fediverse.instances import Answer, Instance

HOST = "127.0.0.1"
# No request of a crawler is longer, in bytes.
LONGEST_REQUEST = 65_536


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, in their order."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the way back."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request whose head is complete; none has a body."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head.decode("latin-1"))
        if len(self._received) > LONGEST_REQUEST:
            self._transport.close()

    def _answer(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        try:
            method, target, _ = first.split(" ")
        except ValueError:
            self._transport.close()
            return
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        parts = urlsplit(target)
        if method == "GET":
            answer = self._instance.answer(parts.path, parts.query, headers.get("host", HOST))
        else:
            answer = Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"", {"Allow": "GET"})
        self._transport.write(_response(answer))
        if headers.get("connection", "").lower() == "close":
            self._transport.close()


def _response(answer: Answer) -> bytes:
    headers = {
        "Date": formatdate(usegmt=True),
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(answer.body)),
        **answer.headers,
    }
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


@contextlib.contextmanager
def serving(instances: Iterable[Instance]) -> Iterator[None]:
    """Serve the instances from a thread, each at its ``url``."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="instances", daemon=True)
    thread.start()
    servers = []
    try:
        for instance in instances:
            serve = asyncio.run_coroutine_threadsafe(_serve(instance), loop)
            servers.append(serve.result())
        yield
    finally:
        for server in servers:
            loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(instance: Instance) -> asyncio.Server:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(instance), HOST, 0)
    instance.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    return server
