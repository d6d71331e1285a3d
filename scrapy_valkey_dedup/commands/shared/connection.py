"""Connects a command to the ledger of a project, on a server or the embedded one."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from secrets import token_bytes
from typing import TYPE_CHECKING

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.tokens import RUN_NAME_BYTES
from scrapy_valkey_dedup.ledger.trial import ledger_of
from scrapy_valkey_dedup.model import TRIAL_MARK, EmbeddedServerError
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.urls import database, redacted

if TYPE_CHECKING:
    from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer

SHELVES = {"posts": "", "pages": "pages", "timelines": "timelines"}
"""What a namespace remembers, and the name of its shelf in keys."""


class NoLedgerError(EmbeddedServerError):
    """The embedded server has no data yet, because no crawl has run here."""


@dataclass(frozen=True)
class LedgerConnection:
    """An open connection to a ledger, with the settings that select it."""

    server: Client
    settings: DedupSettings
    name: str
    """The server's URL without secrets, or the folder of the embedded server's data."""
    run: str
    """The command's own run name, as spiders have one."""
    url: str = field(repr=False)

    @property
    def spool_name(self) -> str:
        """The ledger's server, as a run names it in its spool."""
        if self.settings.url is None:
            return self.name
        chosen = database(self.settings.url, self.settings.client_options)
        return f"{redacted(self.settings.url)} {chosen}".strip()

    def retention(self, what: str) -> float | None:
        """How long ``posts``, ``pages`` or ``timelines`` are kept, in seconds; None: forever."""
        return self.settings.request_retention if what == "pages" else self.settings.retention

    def trial(self, name: str) -> LedgerConnection:
        """The same connection, for a trial of the namespace."""
        return self._of(f"{self.settings.namespace}{TRIAL_MARK}{name}", name)

    @property
    def tried(self) -> LedgerConnection:
        """The same connection, for the namespace that this trial reads from."""
        return self._of(self.settings.tried_namespace, None)

    def _of(self, namespace: str, trial: str | None) -> LedgerConnection:
        return replace(self, settings=replace(self.settings, namespace=namespace, trial=trial))

    def ledger(self, what: str = "posts", *, own: bool = False) -> Ledger:
        """The ledger of ``posts``, ``pages`` or ``timelines``.

        ``own``: if this is a trial, without the posts of the namespace that it reads from.
        """
        settings = self.settings
        return ledger_of(
            self.server,
            settings.namespace,
            self.run,
            tried=None if own else settings.tried_namespace,
            retention=self.retention(what),
            refresh=settings.refresh and what == "posts",
            shelf=SHELVES[what],
        )


@asynccontextmanager
async def connect(
    settings: DedupSettings, *, create: bool = False
) -> AsyncIterator[LedgerConnection]:
    """Connects to the ledger. An embedded server runs until its last user closes the connection.

    ``create``: create the embedded server's data if no crawl has run here yet.

    Raises:
        NoLedgerError: the embedded server has no data, and ``create`` is false.
        EmbeddedServerError: the embedded server cannot be started.

    """
    embedded: EmbeddedServer | None = None
    name, url = "", settings.url
    try:
        if url is None:
            embedded = _embedded(settings, create=create)
            url, name = await asyncio.to_thread(embedded.acquire), str(embedded.data_dir)
        else:
            name = f"{redacted(url)}, database {database(url, settings.client_options)}"
        in_use = True

        def revive() -> None:
            # A request that timed out may still call this, and would start the server again.
            if embedded is not None and in_use:
                embedded.acquire()

        server = _client(settings, url, revive if embedded is not None else None)
        try:
            run = urlsafe_b64encode(token_bytes(RUN_NAME_BYTES)).decode()[:RUN_NAME_BYTES]
            yield LedgerConnection(server, settings, name, run, url)
        finally:
            in_use = False
            await server.close()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.release)


def _client(settings: DedupSettings, url: str, revive: Callable[[], object] | None) -> Client:
    return Client(
        url,
        redacted(url),
        settings.client_options,
        settings.timeout,
        revive,
        credentials=settings.credentials,
    )


def _embedded(settings: DedupSettings, *, create: bool) -> EmbeddedServer:
    try:
        # It needs fcntl, which Windows lacks; with a URL the command runs there.
        from scrapy_valkey_dedup.valkey.embedded import EmbeddedServer  # noqa: PLC0415
    except ImportError:
        raise EmbeddedServerError(
            "VALKEY_DEDUP_URL is not set, and the embedded server cannot run here: set it (--url)"
        ) from None
    if not create and not any(settings.data_dir.glob("appendonly*")):
        raise NoLedgerError(
            f"there is no ledger yet: VALKEY_DEDUP_URL is not set (--url), and no crawl has made "
            f"one in VALKEY_DEDUP_DATA_DIR = {settings.data_dir}"
        )
    return EmbeddedServer(settings.data_dir)
