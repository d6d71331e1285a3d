"""Runs real crawls in real processes against a real site on loopback, and reads what they left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any

from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.ledger import Ledger, tag
from scrapy_valkey_dedup.valkey.client import Server
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.patience import PATIENCE
from tests.support.processes.forkserver import processes
from tests.support.servers.standin import as_admin
from tests.support.spiders.items import crawl
from tests.support.spiders.jobs import Job
from tests.support.spiders.storages import create_table


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Returns what the condition returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {condition}")
        time.sleep(0.005)
    return found


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Spiders that are killed leave broken connections, which is no news here."""


class Site:
    """Pages of posts: ``/N`` is page N as a JSON list, ``posts`` of them on each."""

    def __init__(self, pages: dict[int, list[dict[str, Any]]]) -> None:
        self.pages = pages
        self.served: Counter[int] = Counter()
        self.free: float = inf
        """So many more requests are answered; the next ones wait until there are more."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N805 (self is the site)
                number = int(handler.path.lstrip("/"))
                self.free -= 1
                wait_until(lambda: self.free >= 0, 10 * PATIENCE)
                self.served[number] += 1
                body = json.dumps(self.pages[number]).encode()
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


def pages_of(posts: Iterable[int | str], size: int = 20) -> dict[int, list[dict[str, Any]]]:
    """Spreads posts over pages."""
    listed = [{"post_id": post, "text": f"post {post}"} for post in posts]
    return {start // size: listed[start : start + size] for start in range(0, len(listed), size)}


@dataclass
class Crawl:
    """A crawl in a process of its own."""

    job: Job
    process: Any

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = Path(self.job.directory) / "log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, text: str) -> None:
        """Waits until it has logged something; fails at once if it ends without."""

        def is_logged() -> bool:
            lives = self.process.is_alive()  # asked first: the log of an ended crawl is whole
            if text in self.log:
                return True
            assert lives, f"ended without {text!r}:\n{self.log[-3000:]}"
            return False

        wait_until(is_logged)

    def wait(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """Waits for its end; returns its stats."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"the crawl did not end within {seconds} s:\n{self.log[-3000:]}")
        result = Path(self.job.directory) / "result.json"
        assert result.exists(), f"exit code {self.process.exitcode}:\n{self.log[-3000:]}"
        return dict(json.loads(result.read_text())["stats"])

    def signal(self, number: int) -> None:
        """Sends the process a signal."""
        os.kill(self.process.pid, number)

    def kill(self) -> bool:
        """SIGKILL, and waits until it is gone. False if it had ended before."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(PATIENCE)
        return bool(self.process.exitcode == -signal.SIGKILL)


def start(job: Job) -> Crawl:
    """Starts a crawl."""
    Path(job.directory).mkdir(parents=True, exist_ok=True)
    process = processes.Process(target=crawl, args=(job,))
    process.start()
    return Crawl(job, process)


def stored(job: Job, table: str = "posts") -> Counter[str]:
    """How often each post's id stands in a table."""
    with sqlite3.connect(job.database, timeout=30) as connection:
        create_table(connection, job.database, table)
        return Counter(row[0] for row in connection.execute(f"SELECT id FROM {table}"))


def ask_ledger(url: str, namespace: str, question: Callable[[Ledger, Server], Any]) -> Any:
    """Puts a question to the ledger from outside any crawl."""

    async def ask() -> Any:
        server = Server(as_admin(url), url, {}, PATIENCE)
        try:
            ledger = Ledger(server, namespace, "outsider", retention=1)
            return await question(ledger, server)
        finally:
            await server.close()

    return asyncio.run(ask())


def remembered(
    url: str, namespace: str, posts: Iterable[int | str], kind: str = "Post"
) -> set[str]:
    """Which of the posts the ledger remembers."""
    listed = [str(post) for post in posts]
    keys = [digest(kind, [post]) for post in listed]
    found = ask_ledger(url, namespace, lambda ledger, _: ledger.seen_many(keys))
    return {post for post, seen in zip(listed, found, strict=True) if seen}


def is_held(claim: bytes) -> bool:
    """Whether somebody holds a claim, as its value says."""
    return not claim.startswith(b"-" * 12)


def claims(url: str, namespace: str) -> dict[bytes, bytes]:
    """The claims in the ledger, on posts and on pages: key and token.

    Without what a claim that was given back in doubt leaves behind for an hour: it holds nothing.
    """
    patterns = [f"vd1:{{{tag(namespace)}{shelf}:??}}:c:*" for shelf in ("", "+pages")]

    async def look(_: Ledger, server: Server) -> dict[bytes, bytes]:
        keys = []
        for pattern in patterns:
            keys += await _names(server, pattern)
        values = await server.ask(*(command("GET", key) for key in keys)) if keys else []
        found = zip(keys, values, strict=True)
        return {key: value for key, value in found if value is not None and is_held(value)}

    return dict(ask_ledger(url, namespace, look))


async def _names(server: Server, pattern: str) -> list[bytes]:
    """The keys whose names are like the pattern."""
    names, cursor = [], b"0"
    while True:
        scan = command("SCAN", cursor, "MATCH", pattern, "COUNT", 10000)
        ((cursor, found),) = await server.ask(scan)
        names += found
        if cursor == b"0":
            return names


def heartbeats(url: str, namespace: str) -> int:
    """How many runs are alive."""
    pattern = f"vd1:{{{tag(namespace)}}}:run:*"

    async def look(_: Ledger, server: Server) -> int:
        return len(await _names(server, pattern))

    return int(ask_ledger(url, namespace, look))
