"""Shows the fleet on a terminal until somebody quits: asks, draws, and follows the keys."""

from __future__ import annotations

import asyncio

from scrapy_valkey_dedup.commands.shared.usage import FAILED, FINE
from scrapy_valkey_dedup.commands.shared.watching.picture import SORTS, View, picture
from scrapy_valkey_dedup.commands.shared.watching.terminal import Terminal
from scrapy_valkey_dedup.commands.shared.watching.watcher import Watcher

_TICK = 1.0
"""Seconds between two looks, and two pictures, while the server does not answer."""
_ENDED_BY = 128  # plus the signal's number, as in shells


class Live:
    """The picture, and what keys do to it."""

    def __init__(self, watcher: Watcher, view: View, count: int | None = None) -> None:
        """``count``: it ends after so many looks; None: when it is told to."""
        self._watcher, self._view, self._count = watcher, view, count
        self._code: int | None = None
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()

    async def run(self) -> int:
        """Returns the exit code. The terminal is as it was then, whatever ends it."""
        terminal = Terminal(self._pressed, self._changed.set, self._end_by)
        with terminal:
            self._view.plain, self._view.has_keys = terminal.is_plain, terminal.has_keys
            asking = asyncio.ensure_future(self._keep_asking())
            asking.add_done_callback(lambda _: self._changed.set())
            try:
                while self._code is None:
                    self._changed.clear()
                    width, height = terminal.size
                    terminal.draw(picture(self._watcher, self._view, width, height))
                    await self._next()
                    if asking.done():
                        asking.result()
            finally:
                asking.cancel()
                await asyncio.wait([asking])
        return self._code

    async def _next(self) -> None:
        """Waits until there is something else to draw."""
        tick = None
        if self._watcher.failure is not None:
            tick = asyncio.get_running_loop().call_later(_TICK, self._changed.set)
        await self._changed.wait()
        if tick is not None:
            tick.cancel()

    async def _keep_asking(self) -> None:
        looks = 1  # the watcher has started
        while looks != self._count:
            await self._until_due()
            await self._watcher.refresh()
            looks += 1
            self._changed.set()
        self._code = FINE if self._watcher.failure is None else FAILED

    async def _until_due(self) -> None:
        """Waits for the next look; while it is paused, until it goes on."""
        seconds = self._view.interval if self._watcher.failure is None else _TICK
        due = asyncio.get_running_loop().call_later(seconds, self._wanted.set)
        self._wanted.clear()
        await self._wanted.wait()
        due.cancel()
        while self._view.is_paused:
            self._wanted.clear()
            await self._wanted.wait()

    def _end_by(self, number: int) -> None:
        self._code = _ENDED_BY + number
        self._changed.set()

    def _pressed(self, key: str) -> None:
        view, sorts = self._view, list(SORTS)
        if key in "qQ\x04":  # Ctrl-D
            self._code = FINE
        elif key in "pP ":
            view.is_paused = not view.is_paused
            self._wanted.set()
        elif key in "sS":
            step = 1 if key == "s" else -1
            view.sort = sorts[(sorts.index(view.sort) + step) % len(sorts)]
        elif key in "gG":
            view.by_spider = not view.by_spider
        self._changed.set()
