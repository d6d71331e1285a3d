"""What `scrapy dedup dump` and `load` take: ``python -m bench.dump --posts 10000000``.

Fills a server with posts in three generations, dumps them, loads the file into another server, and
looks there for a sample of these posts and of others. Prints bytes a post, seconds by the clock,
processor seconds of the command and of the server, the command's memory, and the processor time of
the server for the steps in which it answers nobody else. Fails if an answer is wrong, if the file
has more than 10.1 bytes a post, if the command takes more than 64 MiB, if dump or load takes more
than 12 microseconds of processor time a post (ten million in two minutes), or a step 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import sys
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scrapy.settings import Settings

from bench.servers import ValkeyServer
from bench.shared import connected, info, key
from scrapy_valkey_dedup.commands.shared.connection import connect
from scrapy_valkey_dedup.commands.shared.dumps.dumping import dump
from scrapy_valkey_dedup.commands.shared.dumps.loading import load
from scrapy_valkey_dedup.commands.shared.dumps.reader import DumpReader
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.transfer import (
    BUCKETS_AT_ONCE,
    CAPACITY,
    Bucket,
    BucketBatch,
    ShelfBuckets,
)
from scrapy_valkey_dedup.settings import DedupSettings

NAMESPACE = "bench"
DAY = 86400.0
RETENTIONS = (90 * DAY, 45 * DAY, 135 * DAY)
"""Of runs that write to generations of their own: as many as a ledger has that is in use."""
BATCH = 10_000
SAMPLE = 200_000
BYTES_A_POST, MICROSECONDS_A_POST, MIB, MILLISECONDS = 10.1, 12.0, 64, 5.0


def settings_for(url: str) -> DedupSettings:
    """As a project has them that names this server."""
    named = {"VALKEY_DEDUP_URL": url, "VALKEY_DEDUP_NAMESPACE": NAMESPACE}
    return DedupSettings.parse(Settings(named), "bench")


def run(verb: str, url: str, path: str, pipe: Any) -> None:
    """Dumps or loads, in a process of its own whose memory is nobody else's."""

    async def work() -> None:
        async with connect(settings_for(url)) as place:
            if verb == "dump":
                await dump(place, path)
            else:
                with DumpReader(path) as file:
                    await load(place, file, NAMESPACE)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, busy = time.perf_counter(), time.process_time()
    asyncio.run(work())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pipe.send((time.perf_counter() - began, time.process_time() - busy, grown / 1024))


async def busy_seconds(url: str) -> float:
    """Processor time of a server."""
    found = await at(url, "cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


async def at(url: str, section: str) -> dict[str, str]:
    """A section of a server's INFO."""
    async with connected(url) as server:
        return await info(server, section)


def measured(verb: str, server: ValkeyServer, path: str, posts: int) -> float:
    """Carries it out; returns microseconds of processor time a post."""
    before = asyncio.run(busy_seconds(server.url))
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=run, args=(verb, server.url, path, its))
    process.start()
    seconds, own, memory = ours.recv()
    process.join()
    used = asyncio.run(busy_seconds(server.url)) - before
    print(f"{verb}: {seconds:.1f} s by the clock; {memory:.0f} MiB more memory")
    print(f"  processor: {own:.1f} s of the command, {used:.1f} s of the server", flush=True)
    assert memory <= MIB, "the memory is not constant"
    return (own + used) / posts * 1e6


def random_members() -> array[int]:
    """As many as a bucket takes."""
    found = array("q", os.urandom(8 * CAPACITY))
    return array("q", sorted(found))


async def step_times(url: str) -> list[float]:
    """Milliseconds of a server for the longest steps: full buckets are read, and written.

    The first is written where nothing is, the others where others fill one generation, and two.
    """
    ends, found = int((time.time() + DAY) * 1000), list[float]()
    paths = [f"{number:02x}" for number in range(256)]
    async with connected(url) as server:
        shelf = ShelfBuckets(server, "steps")
        for _ in range(3):
            before = await busy_seconds(url)
            for path in paths:
                await shelf.write(BucketBatch(0, ends, [Bucket(path, random_members())]))
            found.append((await busy_seconds(url) - before) / len(paths) * 1000)
        before, buckets = await busy_seconds(url), 0
        async for step in shelf.read(0):
            buckets += len(step.buckets)
        each = (await busy_seconds(url) - before) / buckets * 1000
    return [each * BUCKETS_AT_ONCE, *found]


async def fill(url: str, posts: int) -> None:
    """Stores the posts, a third in each generation."""
    async with connected(url) as server:
        ledgers = [Ledger(server, NAMESPACE, "bench", retention=kept) for kept in RETENTIONS]
        await ledgers[0].open()
        for number, start in enumerate(range(0, posts, BATCH)):
            numbers = range(start, min(start + BATCH, posts))
            await ledgers[number % len(ledgers)].confirm_many([key(each) for each in numbers])


async def missing(url: str, posts: int) -> int:
    """How many answers are wrong, of posts that were stored and as many that were not."""
    wrong, step = 0, max(1, 2 * posts // SAMPLE)
    async with connected(url) as server:
        ledger = Ledger(server, NAMESPACE, "bench", retention=RETENTIONS[0])
        numbers = range(0, 2 * posts, step)
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            found = await ledger.seen_many([key(number) for number in some])
            wrong += sum(seen != (number < posts) for number, seen in zip(some, found, strict=True))
    return wrong


def main() -> bool:
    """Returns whether the limits held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    posts = parser.parse_args().posts
    with ExitStack() as stack:
        source, target = (stack.enter_context(ValkeyServer()) for _ in range(2))
        path = str(Path(stack.enter_context(TemporaryDirectory())) / "posts.dump")
        asyncio.run(fill(source.url, posts))
        used = [measured("dump", source, path, posts), measured("load", target, path, posts)]
        memory = [server.info()["used_memory"] / posts for server in (source, target)]
        size, wrong = Path(path).stat().st_size / posts, asyncio.run(missing(target.url, posts))
        steps = asyncio.run(step_times(target.url))
    print(f"{posts:,} posts: a file of {size:.2f} bytes each; {wrong} wrong answers")
    print(f"bytes of Valkey memory a post: {memory[0]:.2f} there, {memory[1]:.2f} here")
    print(f"microseconds of processor time a post: dump {used[0]:.2f}, load {used[1]:.2f}")
    listed = ", ".join(f"{each:.1f}" for each in steps[1:])
    print(f"milliseconds of the server for a step: to read {steps[0]:.1f}, to write {listed}")
    good = size <= BYTES_A_POST and max(used) <= MICROSECONDS_A_POST and max(steps) <= MILLISECONDS
    return good and not wrong


if __name__ == "__main__":
    sys.exit(not main())
