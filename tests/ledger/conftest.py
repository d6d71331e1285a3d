"""Runs whose claims are soon free, for tests of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import ValkeyServer, free_port
from scrapy_valkey_dedup.session import heartbeat
from tests.support.runs import Runs


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """One of the test's own, which it may hurt."""
    with ValkeyServer(port=free_port()) as own:
        yield own


@pytest.fixture
def runs(server: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Runs whose grace is a second, on a server of the test's own."""
    monkeypatch.setattr(heartbeat, "LONGEST_PAUSE", 0.2)
    made = Runs(server.url, "n", tmp_path)
    yield made
    made.raw.close()
