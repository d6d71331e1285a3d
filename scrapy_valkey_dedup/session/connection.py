"""The server of one run: the one that VALKEY_DEDUP_URL names, or an embedded one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from scrapy_valkey_dedup.model import EmbeddedServerError
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import Stats
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.urls import database, redacted

if TYPE_CHECKING:
    from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer

logger = logging.getLogger(__name__)


class Connection:
    """Opens the client of that server, and closes both."""

    def __init__(self, settings: DedupSettings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        self._embedded: EmbeddedServer | None = None
        self._server: Client | None = None

    @property
    def place(self) -> str:
        """Where the server is, without a secret: URL and database, or a folder."""
        url = self._settings.url
        return f"{redacted(url)} {self._database(url)}" if url else self._folder

    @property
    def description(self) -> str:
        """The same for people."""
        url = self._settings.url
        return f"{redacted(url)}, database {self._database(url)}" if url else self._folder

    @property
    def _folder(self) -> str:
        return str(self._settings.data_dir.resolve())

    def _database(self, url: str) -> str:
        return database(url, self._settings.client_options)

    async def open(self) -> Client:
        """The client, which connects with its first question.

        Raises:
            EmbeddedServerError: the embedded server cannot run.

        """
        url = self._settings.url or await self._start_embedded()
        self._server = Client(
            url,
            redacted(url),
            self._settings.client_options,
            self._settings.timeout,
            self._embedded.acquire if self._embedded is not None else None,
            credentials=self._settings.credentials,
            on_throttled=self._throttled,
        )
        return self._server

    async def close(self) -> None:
        """Closes the client, and leaves the embedded server to the runs that still use it."""
        if self._server is not None:
            await self._server.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.release)

    async def _start_embedded(self) -> str:
        try:
            # Here and not above: it needs fcntl, and with a URL the plugin runs on Windows too.
            from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer  # noqa: PLC0415
        except ImportError:
            raise EmbeddedServerError(
                "VALKEY_DEDUP_URL is not set, and the embedded server cannot run here: set it"
            ) from None
        self._embedded = EmbeddedServer(self._settings.data_dir)
        url = await asyncio.to_thread(self._embedded.acquire)
        logger.info(
            "No VALKEY_DEDUP_URL: the ledger is an embedded Valkey in %s, shared by the spiders of "
            "this machine only.",
            self._settings.data_dir,
        )
        return url

    def _throttled(self, commands: int, words: str) -> None:
        """Valkey has turned commands away, as they are too many."""
        if not self._stats.number(Stats.THROTTLED):
            logger.warning(
                "Valkey turns questions away (%s): this run asks more slowly, and waits. Raise its "
                "limit (ElastiCache Serverless: ECPUs a second), or run fewer spiders at once. %s "
                "counts them.",
                words,
                Stats.THROTTLED,
            )
        self._stats.count(Stats.THROTTLED, commands)
