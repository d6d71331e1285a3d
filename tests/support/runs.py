"""Runs without a crawl: sessions on a real server, and what the server holds of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import valkey as valkey_py
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector
from scrapy.utils.test import get_crawler

from scrapy_valkey_dedup.session.session import Session
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats

KEYS = [bytes([number]) * 16 for number in range(100)]


def new_session(settings: Mapping[str, Any], stats: Stats | None = None) -> Session:
    """A run's session, not open yet, with these settings of a project."""
    return Session(
        DedupSettings.parse(Settings(dict(settings)), "spider"),
        stats or Stats(MemoryStatsCollector(get_crawler())),
        close_spider=print,
        is_closing=lambda: False,
    )


class Runs:
    """Opens the runs of one namespace; ``raw`` is a plain client."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self.url = url
        self.namespace = namespace
        self.directory = directory
        self.raw = valkey_py.Valkey.from_url(url)

    @asynccontextmanager
    async def open(
        self, make_shelves: Callable[[Session], None] = lambda _: None, **changes: Any
    ) -> AsyncIterator[Session]:
        """A run with these settings, in lower case, and with the shelves that components make."""
        values = {"url": self.url, "namespace": self.namespace, "data_dir": str(self.directory)}
        settings = {
            f"VALKEY_DEDUP_{name.upper()}": value for name, value in (values | changes).items()
        }
        session = new_session(settings)
        session.when_ledger_opens(lambda: make_shelves(session))
        await session.open()
        try:
            yield session
        finally:
            await session.close()

    @property
    def claims(self) -> dict[bytes, bytes]:
        """The claims of all runs, by their keys; without what was only given back."""
        names = self.raw.keys(f"vd1:{{{self.namespace}:*}}:c:*")
        found = dict(zip(names, self.raw.mget(names) if names else [], strict=True))
        return {name: value for name, value in found.items() if not value.startswith(b"-" * 12)}

    def beat_name(self, session: Session) -> str:
        """The key of a run's heartbeat."""
        return f"vd1:{{{self.namespace}}}:run:{session.run}"

    def beat_of(self, session: Session) -> int | None:
        """The number of a run's heartbeat."""
        beat = self.raw.get(self.beat_name(session))
        return None if beat is None else int(beat.split()[0])


async def silence(session: Session) -> None:
    """The run beats no more, as one that was killed or is frozen."""
    await session._heartbeat.stop()


async def revive(session: Session) -> None:
    """It goes on."""
    session._heartbeat._stopped = False
    await session._heartbeat.beat(session._access.shelves.ledger)
    session._heartbeat.start(session._access.shelves.ledger)
