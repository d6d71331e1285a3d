"""The parts of the ledger that one run uses, posts and others, and its claims in each of them."""

from __future__ import annotations

import asyncio
from typing import Any

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.ledger.trial import ledger_of
from scrapy_valkey_dedup.session.claim import Claim
from scrapy_valkey_dedup.session.claims import Claims
from scrapy_valkey_dedup.session.heartbeat import Heartbeat
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.spool import Spool
from scrapy_valkey_dedup.settings import DedupSettings
from scrapy_valkey_dedup.stats import ITEMS, StatNames, Stats
from scrapy_valkey_dedup.valkey.client import Client

_CALLS_AT_ONCE = 4
"""Of questions about pages: a download waits for the answer, and Valkey may be far away. Of their
settlements, too: the other workers wait for the last pages of each."""


class Shelves:
    """Makes them, and has all claims of the run renewed, delivered, saved or counted."""

    def __init__(  # noqa: PLR0913 (all are keywords)
        self,
        *,
        server: Client,
        place: str,
        settings: DedupSettings,
        run: str,
        stats: Stats,
        outage: Outage,
        heartbeat: Heartbeat,
    ) -> None:
        """``place``: where the server is; spool files are for one place and namespace."""
        self._server = server
        self._place = f"{place}\n{settings.namespace}"
        self._settings = settings
        self._run = run
        self._stats = stats
        self._outage = outage
        self._heartbeat = heartbeat
        self._claims: list[Claims] = []
        self._others: list[Ledger] = []
        at_once = settings.confirm == "claimed"
        self.ledger = ledger_of(
            server,
            settings.namespace,
            run,
            tried=settings.tried_namespace,
            retention=settings.retention,
            refresh=settings.refresh,
            record=at_once,
            reset=settings.reset,
        )
        self.posts = self._claims_in(self.ledger, "", ITEMS, remembers_at_once=at_once)

    def shelf(self, name: str, *, retention: float | None) -> Ledger:
        """Makes a part of the ledger for other things than posts."""
        made = ledger_of(
            self._server,
            self._settings.namespace,
            self._run,
            tried=self._settings.tried_namespace,
            retention=retention,
            refresh=False,
            reset=self._settings.reset,
            shelf=name,
        )
        self._others.append(made)
        return made

    def claims(self, name: str, names: StatNames, *, retention: float | None) -> Claims:
        """Makes such a part, and the claims of the run in it."""
        return self._claims_in(
            self.shelf(name, retention=retention), name, names, calls_at_once=_CALLS_AT_ONCE
        )

    def _claims_in(self, ledger: Ledger, shelf: str, names: StatNames, **options: Any) -> Claims:
        settings = self._settings
        claims = Claims(
            ledger,
            self._stats,
            names,
            outage=self._outage,
            spool=Spool(settings.data_dir / "spool", self._place, shelf),
            heartbeat=self._heartbeat,
            wait=settings.wait,
            lease=settings.lease,
            reset=settings.reset,
            **options,
        )
        self._claims.append(claims)
        return claims

    async def try_out(self, *, is_known: bool) -> None:
        """Finds out whether Valkey takes all that the run will ask; ``is_known``: it has before.

        Raises what the ledger raises.
        """
        await asyncio.gather(
            self.ledger.probe.check_partitions(permissions_checked=not is_known),
            *(shelf.probe.check_partitions(everywhere=False) for shelf in self._others),
            # A user may be allowed the keys of posts and not those of pages: docs/security.md.
            *(shelf.probe.check_keys() for shelf in self._others if not is_known),
        )

    # -- all claims of the run -------------------------------------------------------------------

    @property
    def open(self) -> list[Claim]:
        """The claims that are not settled."""
        return [claim for claims in self._claims for claim in claims.open]

    @property
    def open_count(self) -> int:
        """How many they are."""
        return sum(claims.open_count for claims in self._claims)

    @property
    def acknowledged(self) -> int:
        """How many settlements Valkey has acknowledged so far."""
        return sum(claims.settlements.acknowledged for claims in self._claims)

    async def renew(self) -> None:
        """Renews the claims: a feed may be stored days after its posts came."""
        for claims in self._claims:
            await claims.renew()

    async def flush(self, patience: float) -> None:
        """Delivers what is settled; gives up when nothing was taken for ``patience`` seconds."""
        await asyncio.gather(*(claims.flush(patience) for claims in self._claims))

    async def deliver_spools(self) -> None:
        """Delivers what earlier runs, or this one, have left in files; raises if it cannot be."""
        for claims in self._claims:
            await claims.settlements.deliver_spool(self.ledger.identity)

    async def deliver_backlogs(self) -> None:
        """Delivers what could not be delivered before; raises if it still cannot be."""
        for claims in self._claims:
            await claims.settlements.deliver_backlog()

    @property
    def outage_may_end(self) -> bool:
        """Whether the rest of the backlogs can be sent while posts are asked for again."""
        return all(claims.settlements.outage_may_end for claims in self._claims)

    def send_backlogs(self) -> None:
        """Sends that rest: the outage is over."""
        for claims in self._claims:
            claims.settlements.send_backlog()

    async def save(self) -> None:
        """Has what could not be delivered written to disk."""
        for claims in self._claims:
            await claims.settlements.save()

    async def save_now_and_then(self) -> None:
        """Has it written to disk once a minute."""
        for claims in self._claims:
            await claims.settlements.save_now_and_then()

    def count(self) -> None:
        """Writes into the stats what Valkey has not acknowledged so far."""
        for claims in self._claims:
            claims.settlements.count()

    async def close(self) -> None:
        """Ends the work; what is stored and not delivered by now is left to the next run."""
        for claims in self._claims:
            await claims.settlements.close()
