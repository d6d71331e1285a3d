"""Bytes of Valkey memory an entry, by the ways to remember posts: ``python -m bench.memory_peers``.

Each way gets a server of its own (``VALKEY_SERVER`` names another binary) and the same posts; what
``INFO memory`` counts as used beyond the start is divided by them. Filters are computed, since no
module for them is at hand: from the formulas of Fan and others, "Cuckoo Filter: Practically Better
Than Bloom" (2014). ``bench.memory`` measures the ledger at other sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha1
from math import log, log2
from pathlib import Path
from tempfile import TemporaryDirectory

import valkey

from bench.servers import ValkeyServer
from bench.shared import RETENTION, connected, info, key
from scrapy_valkey_dedup.ledger.ledger import Ledger

BATCH = 10_000
Pipeline = valkey.client.Pipeline
Way = Callable[[Pipeline, list[bytes]], object]
DAYS_90 = int(RETENTION)
CUCKOO_LOAD = 0.95  # of its slots, four in a bucket


def digits(post: bytes) -> str:
    """What scrapy-redis remembers: a SHA-1 as 40 digits."""
    return sha1(post).hexdigest()


def text_keys(pipe: Pipeline, posts: list[bytes]) -> None:
    """``SET seen:posts:SHA1 1 EX 90d``, as blogs have it."""
    for post in posts:
        pipe.set(f"seen:posts:{digits(post)}", 1, ex=DAYS_90)


def short_keys(pipe: Pipeline, posts: list[bytes]) -> None:
    """The same with the 16 bytes of a digest as the name."""
    for post in posts:
        pipe.set(post, 1, ex=DAYS_90)


def small_hashes(pipe: Pipeline, posts: list[bytes]) -> None:
    """Fields of 8 bytes in 10,000 hashes, which are short lists of about 100 at a million posts."""
    for post in posts:
        number = int.from_bytes(post[:8], "big") % 10_000
        pipe.hset(f"h:{number}", mapping={post[8:]: ""})


def fields_with_an_end(pipe: Pipeline, posts: list[bytes]) -> None:
    """One hash whose fields expire one by one: Valkey 9 and later."""
    for post in posts:
        words = ("HSETEX", "h", "EX", DAYS_90, "FIELDS", 1, post, "")
        pipe.execute_command(*words)  # type: ignore[no-untyped-call]


WAYS: dict[str, Way] = {
    "a string key with a TTL, 40 digits and a prefix": text_keys,
    "a string key with a TTL, 16 bytes": short_keys,
    "a set of 40 digits, as scrapy-redis": lambda pipe, posts: pipe.sadd("s", *map(digits, posts)),
    "a set of 16 bytes": lambda pipe, posts: pipe.sadd("s", *posts),
    "a sorted set by time, 16 bytes": lambda pipe, posts: pipe.zadd("z", dict.fromkeys(posts, 1e9)),
    "hashes of 100 fields of 8 bytes": small_hashes,
    "a hash whose fields expire (Valkey 9)": fields_with_an_end,
}


def batches(posts: int) -> Iterator[list[bytes]]:
    """The posts, some at a time."""
    for start in range(0, posts, BATCH):
        yield [key(number) for number in range(start, min(start + BATCH, posts))]


def used(server: ValkeyServer) -> int:
    """Bytes of memory."""
    with valkey.Valkey(unix_socket_path=str(server.socket)) as client:
        return int(client.info("memory")["used_memory"])


def weigh(way: Way, posts: int) -> float:
    """Bytes a post of one way."""
    with ValkeyServer() as server, valkey.Valkey(unix_socket_path=str(server.socket)) as client:
        empty = used(server)
        for batch in batches(posts):
            pipe = client.pipeline(transaction=False)
            way(pipe, batch)
            pipe.execute()
        return (used(server) - empty) / posts


async def weigh_ledger(posts: int) -> tuple[str, float]:
    """The server's version and allocator, and bytes a post of this plugin's ledger."""
    with ValkeyServer() as server:
        async with connected(server.url) as client:
            about = await info(client, "server") | await info(client, "memory")
            ledger = Ledger(client, "bench", "bench", retention=RETENTION)
            for batch in batches(posts):
                await ledger.confirm_many(batch)
        version = about.get("valkey_version") or about["redis_version"]
        taken = used(server) - int(about["used_memory"])
        return f"server {version}, {about['mem_allocator']}", taken / posts


def weigh_index(posts: int) -> float:
    """Bytes on disk a post of a unique index alone: a table of SQLite that is nothing else."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "index.db")
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE posts (id BLOB PRIMARY KEY) WITHOUT ROWID")
        for batch in batches(posts):
            database.executemany("INSERT INTO posts VALUES (?)", [(post,) for post in batch])
            database.commit()
        database.close()
        return path.stat().st_size / posts


def bloom(error: float) -> float:
    """Bytes an entry of the best Bloom filter with this share of wrong answers, if it is full."""
    return log2(1 / error) / log(2) / 8


def cuckoo(error: float) -> float:
    """The same for a Cuckoo filter with buckets of four."""
    return (log2(1 / error) + 3) / CUCKOO_LOAD / 8


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    posts = parser.parse_args().posts
    server, ledger = asyncio.run(weigh_ledger(posts))
    print(f"{server}; {posts:,} posts; bytes a post")
    print(f"{ledger:>8.1f}  this plugin's ledger", flush=True)
    for name, way in WAYS.items():
        try:
            print(f"{weigh(way, posts):>8.1f}  {name}", flush=True)
        except valkey.ResponseError:
            print(f"{'-':>8}  {name}: this server cannot", flush=True)
    print(f"{weigh_index(posts):>8.1f}  a unique index of 16 bytes, on disk (SQLite)")
    for power in (-20, -50):
        print(f"{bloom(2**power):>8.1f}  a Bloom filter, 2^{power} wrong (computed)")
        print(f"{cuckoo(2**power):>8.1f}  a Cuckoo filter, 2^{power} wrong (computed)")


if __name__ == "__main__":
    main()
