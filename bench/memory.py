"""Bytes of Valkey memory for each remembered post: ``python -m bench.memory --posts 1000000``.

Confirms distinct posts through the plugin's own ledger and prints, at several sizes on the way,
what ``INFO memory`` counts as used beyond the start, the keys, and the posts a second. Without
``--url`` it starts a server; ``VALKEY_SERVER`` names another binary. Fails if the last
size takes more than 10 bytes a post, or if fewer than 30,000 posts a second went in.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from secrets import token_hex

from bench.servers import ValkeyServer
from bench.shared import RETENTION, connected, info, key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

BYTES_A_POST, POSTS_A_SECOND = 10, 30_000


def sizes(posts: int) -> Iterator[int]:
    """Where to measure: 1, 2, 3, 5 and 7 times each power of ten from 10^5 on, and the end."""
    power = 100_000
    while power < posts:
        yield from (size for factor in (1, 2, 3, 5, 7) if (size := factor * power) < posts)
        power *= 10
    yield posts


async def number_of_keys(server: Client) -> int:
    """All keys of the server."""
    (size,) = await server.ask(command("DBSIZE"))
    return int(size)


async def processor_seconds(server: Client) -> float:
    """What the server and this process have used: other programs do not count."""
    used = await info(server, "cpu")
    return time.process_time() + float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def fill(server: Client, posts: int, batch: int) -> bool:
    """Confirms posts and prints the table; returns whether the limits held."""
    about = await info(server, "server") | await info(server, "memory")
    version = about.get("valkey_version") or about["redis_version"]
    print(f"server {version}, {about['mem_allocator']}; batches of {batch:,}")
    print(f"{'posts':>12} {'keys':>9} {'MiB':>8} {'bytes/post':>11} {'posts/s':>9}")
    ledger = Ledger(server, f"bench-{token_hex(4)}", "bench", retention=RETENTION)
    empty, no_keys = int(about["used_memory"]), await number_of_keys(server)
    done, used, busy = 0, 0, await processor_seconds(server)
    for size in sizes(posts):
        began = time.perf_counter()
        before = done
        while done < size:
            upto = min(done + batch, size)
            await ledger.confirm_many([key(number) for number in range(done, upto)])
            done = upto
        seconds = time.perf_counter() - began
        used = int((await info(server, "memory"))["used_memory"]) - empty
        keys = await number_of_keys(server) - no_keys
        print(
            f"{size:>12,} {keys:>9,} {used / 2**20:>8.1f} {used / size:>11.2f} "
            f"{(size - before) / seconds:>9,.0f}",
            flush=True,
        )
    speed = posts / (await processor_seconds(server) - busy)
    print(f"memory: {posts:,} posts, {used / posts:.2f} bytes each, {speed:,.0f} a second")
    return used / posts <= BYTES_A_POST and speed >= POSTS_A_SECOND


async def main() -> bool:
    """Returns whether the limits held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server to fill; without it one is started")
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=10_000, help="posts in one round trip")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.url or stack.enter_context(ValkeyServer()).url
        async with connected(url) as server:
            return await fill(server, arguments.posts, arguments.batch)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
