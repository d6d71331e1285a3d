"""What `scrapy dedup status` costs a server with many posts: ``python -m bench.status``.

Remembers posts in a server of its own, ten million unless ``--posts`` says otherwise, then runs the
command in a process of its own while another connection pings without a pause. Prints the seconds
of the command, and the longest answer that the pings waited for: by the clock, beside as many
seconds without the command, for other programs delay pings, too; and the longest commands by the
server's own count (its slow log). Fails if the command takes 2 seconds, or a command of it 5 ms
(``--no-judge``: the machine is busy).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any

import valkey as valkey_py

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client

SECONDS, LONGEST_MS = 2.0, 5.0
_BATCH = 10_000
_KEY = 16


async def fill(url: str, posts: int) -> None:
    """Remembers posts with random keys, which are as even as digests."""
    server = Client(url, url, {}, timeout=60)
    try:
        ledger = Ledger(server, "posts", "bench", retention=90 * 86400.0)
        await ledger.open()
        for done in range(0, posts, _BATCH):
            some = os.urandom(_KEY * min(_BATCH, posts - done))
            await ledger.confirm_many([some[at : at + _KEY] for at in range(0, len(some), _KEY)])
    finally:
        await server.close()


@dataclass
class Pings:
    """Pings without a pause, until it is told to stop."""

    url: str
    count: int = 0
    longest: float = 0.0
    """Seconds."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ping)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ping(self) -> None:
        with valkey_py.Valkey.from_url(self.url) as client:
            client.ping()
            while not self._stop.is_set():
                began = time.perf_counter()
                client.ping()
                self.longest = max(self.longest, time.perf_counter() - began)
                self.count += 1


def status(url: str, *more: str) -> float:
    """Runs the command; returns its seconds."""
    given = [sys.executable, "-m", "scrapy", "dedup", "status", "--url", url, *more]
    settings = ["-s", "VALKEY_DEDUP_NAMESPACE=posts", "-s", "VALKEY_DEDUP_SCOPE=project"]
    with tempfile.TemporaryDirectory(prefix="svd-status-") as folder:
        began = time.perf_counter()
        subprocess.run([*given, *settings], cwd=folder, check=True)
        return time.perf_counter() - began


def slowest(server: ValkeyServer) -> tuple[float, str]:
    """The longest command since the slow log was emptied: ms, by the server, and its name."""
    with valkey_py.Valkey.from_url(server.url) as client:
        listed: list[dict[str, Any]] = client.slowlog_get(1000)
    found = max(listed, key=lambda each: each["duration"], default=None)
    if found is None:
        return 0.0, "none took a tenth of a millisecond"
    return found["duration"] / 1000, found["command"].decode("utf-8", "replace")[:60]


def main() -> bool:
    """Returns whether the limits held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=10_000_000)
    parser.add_argument("--no-judge", action="store_true", help="print only")
    arguments = parser.parse_args()
    held = True
    with ValkeyServer() as server:
        asyncio.run(fill(server.url, arguments.posts))
        for more in ((), ("--exact",)):
            server.ask("CONFIG", "SET", "slowlog-log-slower-than", 100)
            server.ask("CONFIG", "SET", "slowlog-max-len", 1000)
            server.ask("SLOWLOG", "RESET")
            with (pings := Pings(server.url)):
                seconds = status(server.url, *more)
            longest, name = slowest(server)
            with (idle := Pings(server.url)):
                time.sleep(seconds)
            print(
                f"status {' '.join(more)}: {seconds:.2f} s for {arguments.posts:,} posts; longest "
                f"ping {1000 * pings.longest:.1f} ms of {pings.count:,}, without the command "
                f"{1000 * idle.longest:.1f} ms of {idle.count:,}; longest command {longest:.2f} ms "
                f"({name}); load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            held &= longest < LONGEST_MS and (bool(more) or seconds < SECONDS)
    return arguments.no_judge or held


if __name__ == "__main__":
    sys.exit(not main())
