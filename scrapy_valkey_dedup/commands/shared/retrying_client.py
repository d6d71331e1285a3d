"""Repeats requests for a minute, so that a short outage does not end a long dump or load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

from scrapy_valkey_dedup.commands.shared.imports.importing import PATIENCE
from scrapy_valkey_dedup.model import LedgerReplyError, LedgerUnavailableError
from scrapy_valkey_dedup.valkey.client import Client
from scrapy_valkey_dedup.valkey.resp import ScriptCall

_PAUSE = 1.0
"""Seconds between two attempts."""
_Found = TypeVar("_Found")


class RetryingClient:
    """A client that repeats requests for ``PATIENCE`` seconds while the server does not answer."""

    def __init__(self, server: Client, say: Callable[[str], object] = lambda _: None) -> None:
        """``say`` is called with a message when an outage starts."""
        self._server = server
        self._say = say

    async def ask(self, *commands: bytes, key: str = "") -> list[Any]:
        """Sends commands, as :meth:`Client.ask` does."""
        return await self._answer(lambda: self._server.ask(*commands, key=key))

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Runs script calls, as :meth:`Client.run` does."""
        return await self._answer(lambda: self._server.run(calls))

    async def _answer(self, ask: Callable[[], Awaitable[_Found]]) -> _Found:
        until: float | None = None
        while True:
            try:
                return await ask()
            except LedgerReplyError:
                raise
            except LedgerUnavailableError as error:
                if until is None:
                    until = monotonic() + PATIENCE
                    self._say(f"{error}; asking again for {PATIENCE:.0f} s")
                if monotonic() >= until:
                    raise
            await asyncio.sleep(_PAUSE)
