"""A client that keeps a server busy: ``python -m bench.suite.load URL FIRST POSTS``.

Claims and confirms posts, 40 at a time as from a page, eight pages at once; what waits at the same
time goes in one batch, as in a run. Says ``ready`` when it is connected and begins when it gets a
line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from bench.shared import RETENTION, connected, key
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import Key, Verdict
from scrapy_valkey_dedup.session.batching import Batcher

FAR_APART = 10**9
"""Between the first posts of two clients."""
_PAGE, _AT_ONCE = 40, 8


async def main(url: str, first: int, posts: int) -> None:
    """Stores the posts."""
    async with connected(url) as server:
        ledger = Ledger(server, "bench", f"run{first // FAR_APART}", retention=RETENTION)
        await ledger.open()

        async def confirm_many(keys: Sequence[Key]) -> list[None]:
            await ledger.confirm_many(keys)
            return [None] * len(keys)

        claims, confirms = Batcher(ledger.claim_many), Batcher(confirm_many)
        print("ready", flush=True)
        sys.stdin.readline()
        pages = iter(range(first, first + posts, _PAGE))

        async def work() -> None:
            for page in pages:
                keys = [key(number) for number in range(page, page + _PAGE)]
                answers = await asyncio.gather(*map(claims.ask, keys))
                assert all(answer.verdict is Verdict.NEW for answer in answers), "not new"
                await asyncio.gather(*map(confirms.ask, keys))

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
