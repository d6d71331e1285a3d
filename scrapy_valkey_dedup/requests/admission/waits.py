"""The requests that wait: to claim their page, and then for their download."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from scrapy.http import Request


@dataclass(eq=False)
class ClaimWait:
    """A request that waits until it may claim its page, and then until its download begins."""

    request: Request
    slot: str
    allowed: asyncio.Future[Any]
    is_allowed: bool = field(default=False)
    was_looked_up: bool = field(default=False)


@dataclass(eq=False)
class DownloadWait:
    """A request that has claimed its page, or needs none, and waits for its download."""

    request: Request
    allowed: asyncio.Future[None]


def urgency(waiting: ClaimWait | DownloadWait) -> int:
    """Sorts by priority, and equal priorities by the time of waiting."""
    return -waiting.request.priority
