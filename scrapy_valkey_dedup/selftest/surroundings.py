"""Rules about the server itself: product, evictions, round trips, connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

from scrapy_valkey_dedup.selftest.findings import DiffersError, Rule
from scrapy_valkey_dedup.selftest.sandbox import Sandbox

_ROUND_TRIPS = 200
_LONGEST = 1.0  # seconds for all round trips together
_AT_ONCE = 16


def _texts(words: Any) -> dict[str, str]:
    """A reply of alternating names and values as a dict; empty if it is not a list."""
    if not isinstance(words, list):
        return {}
    texts = [word.decode("utf-8", "replace") if isinstance(word, bytes) else "" for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=False))


async def _info(sandbox: Sandbox, section: str) -> dict[str, str]:
    reply = await sandbox.ask("INFO", section)
    lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _hello(sandbox: Sandbox) -> str:
    facts = _texts(await sandbox.ask("HELLO"))
    if "version" not in facts:
        raise DiffersError("HELLO names no version")
    return f"HELLO says {facts.get('server')} {facts['version']}, mode {facts.get('mode')}"


async def _product(sandbox: Sandbox) -> str:
    facts = await _info(sandbox, "server")
    if "valkey_version" in facts:
        return f"INFO says {facts.get('server_name', 'valkey')} {facts['valkey_version']}"
    if "redis_version" in facts:
        return f"INFO says redis {facts['redis_version']}"
    raise DiffersError("INFO names no version")


async def _evictions(sandbox: Sandbox) -> str:
    policy = (await _info(sandbox, "memory")).get("maxmemory_policy")
    if policy is None:
        policy = _texts(await sandbox.ask("CONFIG", "GET", "maxmemory-policy")).get(
            "maxmemory-policy"
        )
    if policy is None:
        raise DiffersError("neither INFO nor CONFIG tells the maxmemory-policy")
    if policy == "noeviction":
        return "maxmemory-policy noeviction: when it is full, it refuses writes"
    raise DiffersError(
        f"maxmemory-policy {policy}: when it is full, posts may be forgotten in silence; watch "
        "evicted_keys (ElastiCache: Evictions)"
    )


async def _round_trips(sandbox: Sandbox) -> str:
    key = sandbox.key("nothing")
    return await _timed(lambda: sandbox.once("GET", key, key=key), "GET")


async def _script_round_trips(sandbox: Sandbox) -> str:
    return await _timed(lambda: sandbox.script("return 1"), "EVALSHA")


async def _timed(ask: Callable[[], Awaitable[Any]], what: str) -> str:
    await ask()
    times: list[float] = []
    end = perf_counter() + _LONGEST
    while len(times) < _ROUND_TRIPS and perf_counter() < end:
        began = perf_counter()
        await ask()
        times.append(1000 * (perf_counter() - began))
    return (
        f"{what}: median {_quantile(times, 0.5):.2f} ms, p99 {_quantile(times, 0.99):.2f} ms of "
        f"{len(times)} round trips"
    )


def _quantile(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(int(share * len(times)), len(times) - 1)]


async def _connections(sandbox: Sandbox) -> str:
    key = sandbox.key("nothing")
    found = await asyncio.gather(*(sandbox.ask("GET", key, key=key) for _ in range(_AT_ONCE)))
    if any(reply is not None for reply in found):
        raise DiffersError(f"replies are mixed up: {found!r:.80}")
    return f"{_AT_ONCE} connections at once"


HELLO = Rule("HELLO", _hello, needed=False)
SURROUNDING_RULES = (
    HELLO,
    Rule("INFO", _product, needed=False),
    Rule("evictions", _evictions, needed=False),
    Rule("connections", _connections),
    Rule("round trips", _round_trips, needed=False),
    Rule("round trips of scripts", _script_round_trips, needed=False),
)
