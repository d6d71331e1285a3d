"""The ledger without a crawl: as a run sees it, and asked from outside any run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Server
from tests.support.patience import PATIENCE

PLACE = "valkey://place"
"""What messages call the server."""
_runs = count()


@asynccontextmanager
async def ledger_at(
    url: str,
    namespace: str = "posts",
    run: str | None = None,
    *,
    timeout: float = PATIENCE,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Ledger]:
    """The ledger as a run sees it that has not connected yet; without ``run`` as a new one.

    ``options`` are the client's, ``more`` are the ledger's.
    """
    server = Server(url, PLACE, dict(options or {}), timeout)
    try:
        yield Ledger(server, namespace, run or f"run-{next(_runs)}", **{"retention": 60.0, **more})
    finally:
        await server.close()


def in_ledger(
    url: str,
    namespace: str,
    deed: Callable[[Ledger], Awaitable[Any]],
    run: str = "outsider",
    shelf: str = "",
) -> Any:
    """What another run does in the ledger."""

    async def do() -> Any:
        async with ledger_at(url, namespace, run, retention=3600, shelf=shelf) as ledger:
            await ledger.open()
            return await deed(ledger)

    return asyncio.run(do())
