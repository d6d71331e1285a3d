"""The end of a run: delivers what is settled, waits for the spider, releases what is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.shelves import Shelves
from scrapy_valkey_dedup.stats import quantity

logger = logging.getLogger(__name__)

LONGEST_END = 60.0
"""Seconds for which the session waits for a spider that is being closed when the engine stops."""
_LOOK = 0.02  # seconds between two looks, as no signal comes


async def deliver_settled(shelves: Shelves, outage: Outage, patience: float) -> None:
    """Delivers what is settled so far; gives up when Valkey takes nothing for ``patience``."""
    await shelves.flush(patience)
    if outage:  # a second Ctrl-C, or a kill, takes nothing of it away
        await shelves.save()
    while outage:  # what could not be delivered is kept: the probe delivers it
        before = shelves.acknowledged
        await outage.last_chance(patience)
        if outage and shelves.acknowledged == before:
            break
        await shelves.flush(patience)


async def until_spider_closed(
    is_closing: Callable[[], bool], shelves: Shelves | None, lease: float
) -> bool:
    """Waits for a spider that is still being closed, and returns whether it has been.

    Scrapy stops its engine at once when it is told to while the spider closes already, by a
    signal for instance; but the last posts may be on their way to their storage.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + LONGEST_END
    if is_closing():
        logger.info(
            "The engine stops while the spider is being closed: waiting for its feeds and "
            "pipelines, up to %.0f seconds.",
            LONGEST_END,
        )
    while is_closing():
        if clock() >= deadline:
            logger.warning(
                "The spider is still being closed. What it has claimed and may still be "
                "storing (%s) stays claimed for VALKEY_DEDUP_LEASE (%.0f seconds), and is free "
                "after that.",
                quantity(shelves.posts.open_count if shelves is not None else 0, "post"),
                lease,
            )
            return False
        await asyncio.sleep(_LOOK)
    return True


def release_all(shelves: Shelves) -> None:
    """Releases what was never settled. Posts are logged: each should have been."""
    posts = shelves.posts.open
    if posts:
        logger.warning(
            "Claimed but neither confirmed nor released, so free again: %s.",
            quantity(len(posts), "post"),
        )
    for claim in posts:
        claim.release()
    # Their pages were released with them, except those whose retry or redirect was never sent.
    for claim in shelves.open:
        claim.release()
