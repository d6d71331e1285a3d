"""What benchmarks share that ask a ledger without a crawl: keys of posts, and the server's INFO."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b

from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

RETENTION = 90 * 86400.0


def key(number: int) -> Key:
    """The key of a post; digests are as random as those of real identities."""
    return blake2b(b"post %d" % number, digest_size=16).digest()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A connection to a server, with a deadline that no benchmark should meet."""
    server = Client(url, "the server", {}, timeout=60)
    try:
        yield server
    finally:
        await server.close()


async def info(server: Client, section: str) -> dict[str, str]:
    """A section of the server's INFO."""
    (text,) = await server.ask(command("INFO", section))
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
