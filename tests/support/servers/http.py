"""HTTP on loopback, served by threads."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

_T = TypeVar("_T", bound="HttpServer")


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or lose patience leave broken connections: no news here."""


class Handler(BaseHTTPRequestHandler):
    """Answers a request, and says nothing about it."""

    def log_message(self, *_: object) -> None:
        """Of the standard library."""


class HttpServer:
    """Serves with a handler until it is closed."""

    def __init__(self, handler: type[Handler]) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self: _T) -> _T:  # noqa: PYI019 (Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
