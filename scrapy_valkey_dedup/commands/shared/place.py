"""The ledger of a project, opened for a command: a server, or the embedded one."""

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
"""What a namespace holds, and the shelf on which it stands."""


class NoLedgerError(EmbeddedServerError):
    """No crawl has run here yet, so there is nothing to look at."""


@dataclass(frozen=True)
class Place:
    """Where the ledger is, and the way to it."""

    server: Client
    settings: DedupSettings
    name: str
    """As it may be shown."""
    run: str
    url: str = field(repr=False)

    def retention(self, what: str) -> float | None:
        """How long such things are remembered, in seconds; None: forever."""
        return self.settings.request_retention if what == "pages" else self.settings.retention

    def trial(self, name: str) -> Place:
        """A trial of the namespace."""
        return self._of(f"{self.settings.namespace}{TRIAL_MARK}{name}", name)

    @property
    def tried(self) -> Place:
        """The namespace that this trial tries."""
        return self._of(self.settings.tried_namespace, None)

    def _of(self, namespace: str, trial: str | None) -> Place:
        return replace(self, settings=replace(self.settings, namespace=namespace, trial=trial))

    def ledger(self, what: str = "posts", *, own: bool = False) -> Ledger:
        """The ledger of what is remembered: ``posts``, ``pages`` or ``timelines``.

        ``own``: of a trial only what it remembers itself.
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
async def opened(settings: DedupSettings, *, create: bool = False) -> AsyncIterator[Place]:
    """Connects, and starts the embedded server as a crawl does, which ends with its last user.

    ``create``: make a ledger where no crawl has run yet.

    Raises:
        NoLedgerError: there is none.
        EmbeddedServerError: it cannot be started.

    """
    embedded: EmbeddedServer | None = None
    name, url = "", settings.url
    try:
        if url is None:
            embedded = _embedded(settings, create=create)
            url, name = await asyncio.to_thread(embedded.acquire), str(embedded.data_dir)
        else:
            name = f"{redacted(url)} {database(url, settings.client_options)}".strip()
        in_use = True

        def revive() -> None:
            # A question that was given up may still ask for it, and would start it once more.
            if embedded is not None and in_use:
                embedded.acquire()

        server = _client(settings, url, revive if embedded is not None else None)
        try:
            run = urlsafe_b64encode(token_bytes(RUN_NAME_BYTES)).decode()[:RUN_NAME_BYTES]
            yield Place(server, settings, name, run, url)
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
        # It needs fcntl: with a URL the command runs on Windows too.
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
