"""The door to Valkey, and the only importer of valkey-py: connections, deadlines, errors, scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, TypeAlias, TypeVar

from valkey import exceptions
from valkey.asyncio import ConnectionPool, Valkey

from scrapy_valkey_dedup.model import DedupError, LedgerRefusedError, LedgerUnavailableError

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts
_REFUSALS = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.NoPermissionError,
)


@dataclass(frozen=True)
class Script:
    """A Lua script; Valkey knows it by the SHA-1 of its source."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "sha", sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        )


@dataclass(frozen=True)
class ScriptCall:
    """One run of a script. All keys it touches derive from ``key`` and share its hash tag."""

    script: Script
    key: str
    arguments: Sequence[Argument]

    def command(self) -> Command:
        """The call as Valkey reads it."""
        return ("EVALSHA", self.script.sha, 1, self.key, *self.arguments)


class Server:
    """A Valkey server, asked in pipelines, each within one deadline that covers all its attempts.

    Every command sent from here may be sent again, as its reply may be lost: callers send only what
    means the same twice.

    Raises, from every method that asks: :class:`LedgerUnavailableError`,
    :class:`LedgerRefusedError`; never an exception of valkey-py.
    """

    def __init__(self, url: str, place: str, options: Mapping[str, Any], timeout: float) -> None:
        """``place`` is the URL as messages may show it; ``timeout`` is in seconds."""
        self._place = place
        self._timeout = timeout
        self._trouble: BaseException | None = None
        defaults: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if url.startswith(("valkeys:", "rediss:")):
            defaults["ssl_check_hostname"] = True
        try:
            self._pool = ConnectionPool.from_url(url, **defaults | dict(options))
            self._client = Valkey.from_pool(self._pool)
        except (TypeError, ValueError) as error:
            raise LedgerRefusedError(f"VALKEY_DEDUP_URL {place} cannot be used: {error}") from None

    async def ask(self, *commands: Command) -> list[Any]:
        """Returns the replies to commands, sent in one round trip."""
        replies = await self._within_deadline(lambda: self._exchange(commands))
        return self._checked(replies)

    async def run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """Returns one reply for each call, all in one round trip; loads scripts the server lacks."""
        replies = await self._within_deadline(lambda: self._exchange([c.command() for c in calls]))
        missing = [
            i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)
        ]
        if missing:
            # A new, a flushed or a promoted server: it has forgotten the scripts.
            sources = {calls[i].script.source for i in missing}
            loads: list[Command] = [("SCRIPT", "LOAD", source) for source in sources]
            again = await self.ask(*loads, *(calls[i].command() for i in missing))
            for i, reply in zip(missing, again[len(loads) :], strict=True):
                replies[i] = reply
        return self._checked(replies)

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()
        await self._pool.disconnect()

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, exceptions.BusyLoadingError):
                raise reply
        return replies

    async def _within_deadline(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        self._trouble = None
        try:
            return await asyncio.wait_for(self._until_answered(attempt), self._timeout)
        except asyncio.TimeoutError:
            why = f": {self._trouble}" if self._trouble else ""
            raise LedgerUnavailableError(
                f"Valkey at {self._place} gave no answer within {self._timeout:g} s "
                f"(VALKEY_DEDUP_TIMEOUT){why}"
            ) from None

    async def _until_answered(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except _REFUSALS as error:
                raise self._translated(error) from None
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
                self._trouble = error
            except exceptions.ValkeyError as error:
                raise self._translated(error) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _checked(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._translated(reply) from None
        return replies

    def _translated(self, error: Exception) -> DedupError:
        if isinstance(error, _REFUSALS):
            return LedgerRefusedError(
                f"Valkey at {self._place} refuses: {error}. Check user, password and permissions in "
                "VALKEY_DEDUP_URL or VALKEY_DEDUP_CLIENT_OPTIONS"
            )
        return LedgerUnavailableError(f"Valkey at {self._place} answered with an error: {error}")
