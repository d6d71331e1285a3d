"""Weeks of a fleet, as its runs would have written them into the history of a real ledger."""

from __future__ import annotations

import asyncio
from random import Random
from time import time

from bench.shared import RETENTION, connected, key
from scrapy_valkey_dedup.ledger.history import COUNTERS
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client

DAY = 86400
SPIDERS = {
    "mastodon-news": (5200, 3.2, 0.55),
    "forum-threads": (3900, 1.5, 0.30),
    "press-releases": (1700, 5.5, 0.72),
    "city-council": (640, 2.1, 0.20),
    "court-rulings": (420, 0.6, 0.0),
    "reviews": (2600, 2.8, 0.48),
    "jobs-board": (1150, 4.4, 0.66),
    "events": (300, 1.2, 0.12),
    "photo-archive": (90, 0.3, 0.0),
}
"""New posts a day, duplicates for each of them, and the share of pages that are not fetched."""


async def write_history(server: Client, namespace: str, days: int) -> int:
    """Writes so many days that end now, and remembers the posts; returns how many."""
    chance, now = Random(2026), time()
    stored = 0
    for back in range(days, -1, -1):
        day = now - back * DAY
        for number, (name, (posts, again, saved)) in enumerate(SPIDERS.items()):
            weekend = 0.45 if int(day // DAY) % 7 in (2, 3) else 1
            so_far = (now % DAY) / DAY if back == 0 else 1
            new = round(posts * weekend * so_far * chance.uniform(0.75, 1.25) * (1 - back / 260))
            met = round(new * again * chance.uniform(0.85, 1.2))
            pages = round((new + met) / 11 * (1 - saved)) + 3
            away = back == 12 and number < 5
            counted = {
                "runs": 4, "seconds": round(5400 * weekend), "new": new, "duplicate": met,
                "in_flight": met // 400, "stored": new - new // 250, "not_stored": new // 250,
                "unkeyed": new // 900, "pages": pages,
                "pages_saved": round(pages * saved / (1 - saved)),
                "outages": int(away), "outage_seconds": 190 * away, "unchecked": 41 * away,
            }  # fmt: skip
            totals = [counted.get(each, 0) for each in COUNTERS]
            stored += counted["stored"]
            run = Ledger(server, namespace, f"{back}-{number}", retention=RETENTION)
            await run.history.add(name, totals, [0] * len(COUNTERS), day, stored)
    ledger = Ledger(server, namespace, "weeks", retention=RETENTION)
    await ledger.open()
    for start in range(0, stored, 10_000):
        some = range(start, min(start + 10_000, stored))
        await ledger.confirm_many([key(number) for number in some])
    return stored


def fill(url: str, days: int) -> None:
    """Writes so many days into the namespace ``posts`` of a server."""

    async def write() -> None:
        async with connected(url) as server:
            await write_history(server, "posts", days)

    asyncio.run(write())
