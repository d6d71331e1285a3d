"""What a post costs on ElastiCache's bill: ``python -m bench.ecpu``.

An ECPU is taken for 3 microseconds of a script, or for a kilobyte that is sent or received,
whichever is more, and one at least for each call (AWS publishes no formula for scripts; its
estimator takes 3 microseconds). The server tells how long its scripts took (``INFO commandstats``).
Other work on the machine makes them longer, never shorter: of several rounds the cheapest counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import NamedTuple

from bench.servers import ValkeyServer
from bench.shared import RETENTION, connected, info, key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import command

MICROSECONDS = 3
BATCHES = (1, 10, 40, 80)
_FILL = 10_000


class Bill(NamedTuple):
    """What some calls of scripts took."""

    calls: int
    microseconds: int
    bytes: int

    def ecpu(self) -> float:
        """ECPU, all calls being alike."""
        a_call = max(1, self.microseconds / self.calls / MICROSECONDS)
        return self.calls * max(a_call, self.bytes / self.calls / 1024)


async def bill(server: Client) -> Bill:
    """What scripts have taken so far."""
    found = (await info(server, "commandstats")).get("cmdstat_evalsha", "calls=0,usec=0")
    fields = dict(field.split("=") for field in found.split(","))
    net = await info(server, "stats")
    sent = int(net["total_net_input_bytes"]) + int(net["total_net_output_bytes"])
    return Bill(int(fields["calls"]), int(fields["usec"]), sent)


async def cost(server: Client, deed: Awaitable[object]) -> Bill:
    """What a deed takes."""
    before = await bill(server)
    await deed
    after = await bill(server)
    return Bill(*(now - then for now, then in zip(after, before, strict=True)))


class Crawl:
    """Asks for posts and stores them, as a crawl does."""

    def __init__(self, ledger: Ledger, known: int) -> None:
        """``known``: so many posts are remembered."""
        self._ledger = ledger
        self._known = self._next = known

    async def fill(self) -> None:
        """Remembers them."""
        for start in range(0, self._known, _FILL):
            await self._ledger.confirm_many([key(n) for n in range(start, start + _FILL)])

    def new_posts(self, number: int) -> list[Key]:
        """Posts that no run has met."""
        self._next += number
        return [key(n) for n in range(self._next - number, self._next)]

    def known_posts(self, number: int) -> list[Key]:
        """Posts that are remembered, from all over."""
        return [key(n * 7919 % self._known) for n in range(self._next, self._next + number)]

    async def store(self, posts: list[Key], batch: int) -> None:
        """Claims posts, so many at a time, and confirms them."""
        for start in range(0, len(posts), batch):
            some = posts[start : start + batch]
            await self._ledger.claim_many(some)
            await self._ledger.confirm_many(some)

    async def meet(self, posts: list[Key], batch: int) -> None:
        """Asks for posts, so many at a time."""
        for start in range(0, len(posts), batch):
            await self._ledger.claim_many(posts[start : start + batch])


async def table(server: Client, known: int, posts: int, rounds: int) -> None:
    """Prints it."""
    crawl = Crawl(Ledger(server, "ecpu", "bench", retention=RETENTION), known)
    await crawl.fill()
    kinds: dict[str, tuple[Callable[[int], list[Key]], Callable[[list[Key], int], Awaitable[None]]]]
    kinds = {"new": (crawl.new_posts, crawl.store), "known": (crawl.known_posts, crawl.meet)}
    about = await info(server, "server")
    version = about.get("valkey_version") or about["redis_version"]
    print(f"server {version}; {known:,} posts known; each the cheapest of {rounds} rounds")
    print(f"{'post':>6} {'at a time':>10} {'calls':>7} {'us':>7} {'bytes':>7} {'ECPU':>7}")
    for kind, (choose, deed) in kinds.items():
        for batch in BATCHES:
            bills = [await cost(server, deed(choose(posts), batch)) for _ in range(rounds)]
            best = min(bills, key=Bill.ecpu)
            calls, microseconds, size = (figure / posts for figure in best)
            print(
                f"{kind:>6} {batch:>10} {calls:>7.2f} {microseconds:>7.1f} {size:>7.0f} "
                f"{best.ecpu() / posts:>7.2f}",
                flush=True,
            )


async def main() -> None:
    """Measures a server that it starts, or the one at ``--url``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server to fill; without it one is started")
    parser.add_argument("--known", type=int, default=200_000)
    parser.add_argument("--posts", type=int, default=800, help="in each round")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.url or stack.enter_context(ValkeyServer()).url
        async with connected(url) as server:
            await server.ask(command("PING"))
            await table(server, arguments.known, arguments.posts, arguments.rounds)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
