"""The heartbeat of a run, by which others see that it lives, and its questions for theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from time import monotonic, time

from scrapy_valkey_dedup.ledger.ledger import Ledger
from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.session.batching import Batcher
from scrapy_valkey_dedup.session.failure_detector import FailureDetector, number_of
from scrapy_valkey_dedup.session.outage import Outage
from scrapy_valkey_dedup.session.probing import LONGEST_PAUSE

logger = logging.getLogger(__name__)


def beat_interval(lease: float, wait: float) -> float:
    """Seconds between two heartbeats: often enough to be seen alive within the others' WAIT."""
    return min(lease / 3, max(wait, 1) / 2)


class Heartbeat:
    """The heartbeat of one run, and its view of the others'. Times are in seconds."""

    def __init__(
        self,
        outage: Outage,
        *,
        lease: float,
        wait: float,
        timeout: float,
        chores: Callable[[], Awaitable[None]],
    ) -> None:
        """``lease``, ``wait`` and ``timeout`` are the settings.

        ``chores`` are done as often as it beats, beside it.
        """
        self.grace = max(lease, LONGEST_PAUSE + timeout)
        """For so long after an outage a missing heartbeat means nothing: the run that asks first
        may be back before those whose heartbeats have expired in the outage."""
        self._outage = outage
        self._lease = lease
        self._interval = beat_interval(lease, wait)
        # A run that is frozen or away for less than LEASE keeps it: the last beat may lie an
        # interval back, and the next one may have to be tried again for a TIMEOUT.
        self.lifetime = lease + timeout + self._interval
        """Seconds for which a heartbeat lasts."""
        self._detector = FailureDetector(self.grace, self.lifetime)
        self._grace_began = -inf
        self._beaten: tuple[float, float] | None = None
        self.round_trip = 0.0
        """Seconds that Valkey took to answer the last beat."""
        self._chores = chores
        self._ledger: Ledger | None = None
        self._beats: Batcher[str, bytes | None] = Batcher(self._ask)
        self._number = 0
        self._idle = False
        self._hurry = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
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
        """Shows once that this run is alive; raises what the ledger raises."""
        self._ledger = ledger
        self._number += 1
        # Monotonic time stops while the machine is suspended.
        now = monotonic(), time()
        was_alive = self._is_alive
        before = await ledger.runs.write_heartbeat(self._number, self.lifetime, idle=self._idle)
        self.round_trip = monotonic() - now[0]
        # None: it is the first, or the server's clock has stepped, or it has lost heartbeats. This
        # very number: an attempt whose reply was lost has found that, or has not. And a run that
        # was frozen for long may have slept through an outage.
        if before is None or number_of(before) == self._number or not was_alive:
            self._grace_began = monotonic()
        self._beaten = now

    @property
    def _is_alive(self) -> bool:
        """Whether it is known that the last beat lasts."""
        if self._beaten is None:
            return False
        steady, wall = self._beaten
        return monotonic() - steady < self._lease and -self._lease < time() - wall < self._lease

    async def ensure_alive(self) -> None:
        """Beats unless it is known that the last beat lasts: what a run claims must not be taken.

        Raises what the ledger raises.
        """
        assert self._ledger is not None  # noqa: S101 (a run that claims has beaten)
        if not self._is_alive:
            await self.beat(self._ledger)

    def start(self, ledger: Ledger) -> None:
        """Goes on beating, at least three times in a lease."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_beating(ledger)),
            loop.create_task(self._keep_doing_chores()),
        ]

    async def stop(self) -> None:
        """Beats no more. The last beat stays for its lifetime, unless the run leaves the ledger."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _keep_beating(self, ledger: Ledger) -> None:
        """Does nothing else: slow work must not make a living run look dead."""
        while not self._stopped:  # before 3.12 wait_for may lose a cancellation
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._interval)
            self._hurry.clear()
            if not self._outage or self._outage.ends:
                await self._try(self.beat(ledger))

    async def _keep_doing_chores(self) -> None:
        while not self._stopped:
            await asyncio.sleep(self._interval)
            await self._try(self._chores())

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except DedupError as error:
            self._outage.failed(error)
        except Exception:
            logger.exception("A heartbeat failed; the next is tried.")

    async def of(self, run: str) -> bytes | None:
        """The last heartbeat of a run; None for a dead one, UNKNOWN if it cannot be told."""
        return await self._beats.ask(run)

    async def _ask(self, runs: Sequence[str]) -> list[bytes | None]:
        self._outage.check()
        assert self._ledger is not None  # noqa: S101 (a claim was answered, so it has beaten)
        distinct = list(dict.fromkeys(runs))
        try:
            await self.ensure_alive()  # a run that is late itself must not judge others
            own, *beats = await self._ledger.runs.read_heartbeats([self._ledger.run, *distinct])
        except DedupError as error:
            self._outage.failed(error)
            raise
        if own is None:
            # The server's clock has stepped, or it has lost heartbeats, or no run could beat.
            self._grace_began = monotonic()
            self._hurry.set()
        in_grace = monotonic() - self._grace_began < self.grace
        in_grace = in_grace or self._outage.ended_within(self.grace)
        found = {
            run: self._detector.judge(run, beat, in_grace=in_grace)
            for run, beat in zip(distinct, beats, strict=True)
        }
        self._detector.forget_all_but(distinct)
        return [found[run] for run in runs]
