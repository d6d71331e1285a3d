"""A real Valkey for the tests: one server for the session, a namespace of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.client import Server
from scrapy_valkey_dedup.ledger import Ledger

_numbers = count()


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """The session's server. Tests that hurt a server start one of their own."""
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def open_ledger(valkey: ValkeyServer, namespace: str) -> Callable[..., object]:
    """Opens the test's ledger as one run sees it: ``async with open_ledger("run-a") as ledger``."""

    @asynccontextmanager
    async def opened(run: str = "run-a", **options: object) -> AsyncIterator[Ledger]:
        server = Server(valkey.url, valkey.url, {}, timeout=5)
        try:
            yield Ledger(server, namespace, run, **{"retention": 3600.0, **options})
        finally:
            await server.close()

    return opened
