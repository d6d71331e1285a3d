"""Tries during an outage whether Valkey answers, again and again, with growing pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Any

from scrapy_valkey_dedup.model import DedupError
from scrapy_valkey_dedup.tasks import retrieve

logger = logging.getLogger(__name__)

_FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two probes, before the jitter."""
_LOOK = 0.25  # seconds between two calls of look()


class Prober:
    """Probes while an outage lasts."""

    def __init__(self, probe: Callable[[], Awaitable[None]], look: Callable[[], None]) -> None:
        """``probe`` ends the outage or raises; ``look`` is called now and then until it does."""
        self._probe = probe
        self._look = look
        self._pause = _FIRST_PAUSE
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._probed: asyncio.Future[None] | None = None

    def start(self, goes_on: Callable[[], bool]) -> None:
        """Probes until the outage does not go on: the next one starts another task."""
        self._task = asyncio.get_running_loop().create_task(self._probe_while(goes_on))

    def reset_pause(self) -> None:
        """The next outage is a new one: its first probe comes soon."""
        self._pause = _FIRST_PAUSE

    async def probe_now(self, patience: float) -> None:
        """Probes without a further pause; returns when that is done, or after ``patience``."""
        if self._probed is not None:
            self._hurry.set()
            await asyncio.wait([self._probed], timeout=patience)

    async def stop(self) -> None:
        """Probes no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _probe_while(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            probed = self._probed = asyncio.get_running_loop().create_future()
            jitter = uniform(0.5, 1)  # noqa: S311 (no secret)
            try:
                await self._watching(self._sleep(self._pause * jitter))
                await self._watching(self._probe())
            except DedupError:
                pass
            except Exception:
                logger.exception("Looking whether Valkey answers failed; it is tried again.")
            finally:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                probed.set_result(None)

    async def _sleep(self, seconds: float) -> None:
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait([hurry], timeout=seconds)
        finally:
            hurry.cancel()
        self._hurry.clear()

    async def _watching(self, work: Awaitable[Any]) -> None:
        """Awaits it, and looks now and then whether a pause must end."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(retrieve)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_LOOK)
                self._look()
            task.result()
        finally:
            if not task.done():  # it may hold what it has not delivered: wait until it is put back
                task.cancel()
                await asyncio.wait([task])
