"""The ledger without a crawl: as a run sees it, and asked from outside any run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bench.servers import ValkeyServer
from scrapy_valkey_dedup.identity.encoding import digest
from scrapy_valkey_dedup.ledger.keys import namespace_tag
from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer
from scrapy_valkey_dedup.valkey.resp import command
from tests.support.patience import PATIENCE
from tests.support.servers.standin import as_admin

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
    server = Client(url, PLACE, dict(options or {}), timeout)
    try:
        yield Ledger(server, namespace, run or f"run-{next(_runs)}", **{"retention": 60.0, **more})
    finally:
        await server.close()


def in_ledger(
    url: str,
    namespace: str,
    deed: Callable[[Ledger], Awaitable[Any]],
    run: str = "outsider",
    **more: Any,
) -> Any:
    """What another run does in the ledger."""

    async def do() -> Any:
        async with ledger_at(url, namespace, run, **{"retention": 3600, **more}) as ledger:
            await ledger.open()
            return await deed(ledger)

    return asyncio.run(do())


def in_embedded_ledger(folder: Path, deed: Callable[[Ledger], Awaitable[Any]]) -> Any:
    """What a run does in a project's embedded ledger, whose posts are kept forever."""
    server = EmbeddedServer(folder)
    try:
        return in_ledger(server.acquire(), "posts", deed, retention=None)
    finally:
        server.release()


def keys_of(server: ValkeyServer, namespace: str) -> set[str]:
    """The names of all keys of a namespace, and of those that begin with its name.

    Those of other tests may expire at any time.
    """
    own = f"vd1:{{{namespace_tag(namespace)}"
    return {name for name in server.ask("KEYS", "*") if name.startswith(own)}


def ask_ledger(url: str, namespace: str, question: Callable[[Ledger, Client], Any]) -> Any:
    """Puts a question to the ledger from outside any run, as a user with all permissions."""

    async def ask() -> Any:
        async with ledger_at(as_admin(url), namespace, "outsider", retention=1) as ledger:
            return await question(ledger, ledger._client)

    return asyncio.run(ask())


def remembered(
    url: str, namespace: str, posts: Iterable[int | str], kind: str = "Post"
) -> set[str]:
    """Which of the posts the ledger remembers."""
    listed = [str(post) for post in posts]
    keys = [digest(kind, [post]) for post in listed]
    found = ask_ledger(url, namespace, lambda ledger, _: ledger.seen_many(keys))
    return {post for post, seen in zip(listed, found, strict=True) if seen}


def is_held(claim: bytes) -> bool:
    """Whether a run holds a claim, as its value says."""
    return not claim.startswith(b"-" * 12)


def claims(url: str, namespace: str) -> dict[bytes, bytes]:
    """The claims in the ledger, on posts and on pages: key and token.

    Without what a claim that was given back in doubt leaves behind for an hour: it holds nothing.
    """
    patterns = [f"vd1:{{{namespace_tag(namespace)}{shelf}:??}}:c:*" for shelf in ("", "+pages")]

    async def look(_: Ledger, server: Client) -> dict[bytes, bytes]:
        keys = []
        for pattern in patterns:
            keys += await _names(server, pattern)
        values = await server.ask(*(command("GET", key) for key in keys)) if keys else []
        found = zip(keys, values, strict=True)
        return {key: value for key, value in found if value is not None and is_held(value)}

    return dict(ask_ledger(url, namespace, look))


async def _names(server: Client, pattern: str) -> list[bytes]:
    """The keys whose names are like the pattern."""
    names, cursor = [], b"0"
    while True:
        scan = command("SCAN", cursor, "MATCH", pattern, "COUNT", 10000)
        ((cursor, found),) = await server.ask(scan)
        names += found
        if cursor == b"0":
            return names


def heartbeats(url: str, namespace: str) -> int:
    """How many runs are alive."""
    pattern = f"vd1:{{{namespace_tag(namespace)}}}:run:*"

    async def look(_: Ledger, server: Client) -> int:
        return len(await _names(server, pattern))

    return int(ask_ledger(url, namespace, look))
