"""Asks a ledger again and again: which runs there are, what each has done, how the server is."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, time

from scrapy_valkey_dedup.commands.shared.connection import LedgerConnection
from scrapy_valkey_dedup.commands.shared.watching.finder import RunFinder
from scrapy_valkey_dedup.commands.shared.watching.fleet import Fleet
from scrapy_valkey_dedup.commands.shared.watching.ledger_facts import LedgerFacts
from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.stats import RunInfo
from scrapy_valkey_dedup.valkey.resp import command


@dataclass(frozen=True)
class Failure:
    """The server does not answer, or refuses."""

    message: str
    since: float
    """Seconds since 1970."""


class Watcher:
    """What is seen of a ledger. It keeps what it has seen while the server is away."""

    def __init__(self, connection: LedgerConnection) -> None:
        self.place = connection.name
        self.namespace = connection.settings.namespace
        self.fleet = Fleet()
        self.facts = LedgerFacts(connection)
        self.failure: Failure | None = None
        """Why the last question was not answered; None if it was."""
        self.moment, self.now = time(), monotonic()
        """When the runs were asked last with success: since 1970, and by the watcher's clock."""
        self.is_empty = False
        """Whether no run has used this ledger yet."""
        self._ledger = connection.ledger()
        self._server = connection.server
        self._finder = RunFinder(connection.server, self.namespace)

    @property
    def refused(self) -> str:
        """Why runs cannot be found; "" if they can."""
        return self._finder.refused

    async def start(self) -> None:
        """Asks for the first time.

        Raises:
            DedupError: the server does not answer, or refuses; another version wrote the ledger.

        """
        self.is_empty = not await self._ledger.exists()
        await self._ask(await self._finder.first())

    async def refresh(self) -> None:
        """Asks again; notes it if there is no answer."""
        try:
            await self._ask(await self._finder.more())
        except DedupError as error:
            since = time() if self.failure is None else self.failure.since
            self.failure = Failure(str(error), since)

    async def _ask(self, found: set[str]) -> None:
        ping, layout = self.facts.timed, self._ledger.namespace_keys[1]
        await ping(self._server.ask(command("GET", layout), key=layout))
        runs = self._ledger.runs
        names = [*self.fleet.names, *self.fleet.unknown(sorted(found))]
        beats = await ping(runs.read_heartbeats(names)) if names else []
        written = await ping(runs.read_infos(names)) if names else []
        await self.facts.refresh()
        self.moment, self.now = time(), monotonic()
        infos = map(RunInfo.from_json, written)
        seen = zip(names, zip(beats, infos, strict=True), strict=True)
        self.fleet.update(dict(seen), self.now)
        self.is_empty = self.is_empty and not names
        self.failure = None

    async def close(self) -> None:
        """Stops what is still being asked."""
        await self.facts.close()
