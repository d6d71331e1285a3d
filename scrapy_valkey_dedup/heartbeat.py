"""How runs see whether others live: each renews a heartbeat, and asks after those of the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from scrapy_valkey_dedup.batching import Batcher
from scrapy_valkey_dedup.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.outage import LONGEST_PAUSE, Outage

logger = logging.getLogger(__name__)

UNKNOWN = b"?"
"""The heartbeat of a run that may be dead, or that an outage has kept from beating."""


class Heartbeat:
    """The heartbeat of one run, and its view of the others'. Times are in seconds."""

    def __init__(
        self,
        outage: Outage,
        *,
        lease: float,
        wait: float,
        timeout: float,
        meanwhile: Callable[[], Awaitable[None]],
    ) -> None:
        """``lease``, ``wait`` and ``timeout`` are the settings; ``meanwhile`` runs at each beat."""
        self.grace = max(lease, LONGEST_PAUSE + timeout)
        """For so long after an outage a missing heartbeat means nothing: who asks first may come
        before those whose heartbeats have ended meanwhile."""
        self._outage = outage
        self._lease = lease
        # Often enough to be seen alive within the others' WAIT.
        self._interval = min(lease / 3, max(wait, 1) / 2)
        self._meanwhile = meanwhile
        self._ledger: Ledger | None = None
        self._beats: Batcher[str, bytes | None] = Batcher(self._ask)
        self._number = 0
        self._idle = False
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether this run has nothing left to do but to wait for other runs; they are told."""
        return self._idle

    @idle.setter
    def idle(self, idle: bool) -> None:
        if idle != self._idle:
            self._hurry.set()
        self._idle = idle

    async def beat(self, ledger: Ledger) -> None:
        """Shows once that this run lives; raises what the ledger raises."""
        self._ledger = ledger
        self._number += 1
        await ledger.beat(self._number, self._lease, idle=self._idle)

    def start(self, ledger: Ledger) -> None:
        """Goes on beating, thrice a lease at least."""
        self._task = asyncio.get_running_loop().create_task(self._keep_beating(ledger))

    async def stop(self) -> None:
        """Beats no more. The last beat stays for its lease, unless the run leaves the ledger."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_beating(self, ledger: Ledger) -> None:
        while not self._stopped:  # before 3.12 wait_for may lose a cancellation
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._interval)
            self._hurry.clear()
            try:
                if not self._outage or self._outage.ends:
                    await self.beat(ledger)
                await self._meanwhile()
            except DedupError as error:
                self._outage.failed(error)
            except Exception:
                logger.exception("A heartbeat failed; the next is tried.")

    async def of(self, run: str) -> bytes | None:
        """The last heartbeat of a run; None for a dead one, UNKNOWN soon after an outage."""
        return await self._beats.ask(run)

    async def _ask(self, runs: Sequence[str]) -> list[bytes | None]:
        self._outage.check()
        assert self._ledger is not None  # noqa: S101 (who asks holds the answer of one)
        distinct = list(dict.fromkeys(runs))
        try:
            beats = await self._ledger.beats(distinct)
        except DedupError as error:
            self._outage.failed(error)
            raise
        missing = UNKNOWN if self._outage.ended_within(self.grace) else None
        found = {
            run: missing if beat is None else beat
            for run, beat in zip(distinct, beats, strict=True)
        }
        return [found[run] for run in runs]
